"""Real SIGKILLs of the real program at each step of the life of a batch: nothing lost, nothing doubled, nothing paid
twice, one batch for each shard."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest

from promptmill._journal import DATABASE, Store
from promptmill.errors import StorageError

KILLS = int(os.environ.get("PROMPTMILL_KILLS", "2"))
PATIENCE = 60.0

SETTLING = "promptmill._batching.desk:SETTLE_S"
BATCH = "promptmill_openai.batch:OpenAIBatch"
BOOK = "promptmill._shelf:JournalBook"
LANE = "promptmill._batch_lane:BatchLane"
CREATE = {"at": "promptmill_openai.endpoint:Endpoint.call", "given": ["POST", "/batches"]}
SMALL_PIECES = {"promptmill.http._uploading:PIECE_BYTES": 100, "promptmill.http._downloading:PIECE_BYTES": 1}
SMALL_COMMITS = {"promptmill._delivery:BACKLOG": 3, "promptmill._delivery:LINGER_RESULTS": 2}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows"),
    pytest.mark.timeout(120),
]


class Point(NamedTuple):
    """A step, and what is so when the program has been killed there: the states some shard has, and how many batches
    the provider has at least."""

    orders: dict[str, Any]
    states: set[str]
    batches: int = 1


POINTS = {
    "before the intent is written": Point({"at": f"{BOOK}.submitting"}, set(), 0),
    "intent written": Point({"at": f"{BOOK}.submitting", "when": "after"}, {"submitting"}, 0),
    "before the upload": Point({"at": "promptmill_openai.endpoint:Endpoint.upload"}, {"submitting"}, 0),
    "during the upload": Point(
        {"at": "promptmill.http._uploading:FileForm._read", "nth": 5, "set": SMALL_PIECES}, {"submitting"}, 0
    ),
    "uploaded": Point({"at": "promptmill_openai.endpoint:Endpoint.upload", "when": "after"}, {"submitting"}, 0),
    "create is on its way": Point({**CREATE, "how": "send"}, {"submitting"}),
    "created, the reply not looked at": Point({**CREATE, "when": "after"}, {"submitting"}),
    "before the id is written": Point({"at": f"{BOOK}.submitted"}, {"submitting"}),
    "id written": Point({"at": f"{BOOK}.submitted", "when": "after"}, {"submitted"}),
    "the last id written": Point({"at": f"{BOOK}.submitted", "when": "after", "nth": 3}, {"submitted"}, 3),
    "before a poll": Point({"at": f"{BATCH}.poll", "nth": 2}, {"submitted"}),
    "polled": Point({"at": f"{BATCH}.poll", "when": "after", "nth": 4}, {"submitted"}),
    "before the download": Point({"at": f"{BATCH}.download"}, {"submitted"}),
    "during the download": Point(
        {"at": "promptmill.http._downloading:Download.take", "when": "after", "how": "half", "set": SMALL_PIECES},
        {"submitted"},
    ),
    "before the download has its name": Point(
        {"at": "promptmill.http._downloading:Download.finish", "set": SMALL_PIECES}, {"submitted"}
    ),
    "one of two files downloaded": Point({"at": f"{BATCH}._fetched", "when": "after"}, {"submitted"}),
    "downloaded": Point({"at": f"{BATCH}.download", "when": "after"}, {"submitted"}),
    "a result taken in": Point({"at": f"{LANE}.succeeded", "when": "after"}, {"submitted"}),
    "some results committed": Point({"at": f"{LANE}.succeeded", "nth": 5, "set": SMALL_COMMITS}, {"submitted"}),
    "all results committed": Point({"at": f"{BOOK}.collected"}, {"submitted"}),
    "collected": Point({"at": f"{BOOK}.collected", "when": "after"}, {"collected"}),
    "before the rest is queued again": Point({"at": f"{LANE}.retry"}, {"collected"}),
    "some of the rest queued again": Point({"at": f"{LANE}.retry", "nth": 2, "when": "after"}, {"collected"}),
    "the rest on its way again": Point({"at": f"{BOOK}.submitted", "nth": 4}, {"submitting", "collected"}, 4),
    "before files are deleted": Point({"at": "promptmill._batches:clear_shard"}, {"collected"}),
    "half of the files deleted": Point(
        {"at": "promptmill._batching.shards:remove_shard", "when": "after"}, {"collected"}
    ),
    "files deleted": Point({"at": "promptmill._batches:clear_shard", "when": "after"}, {"collected"}),
}

SELDOM = {
    "before the intent is written",
    "before the download",
    "before the upload",
    "before the id is written",
    "the last id written",
    "before a poll",
    "polled",
    "before the download has its name",
    "one of two files downloaded",
    "a result taken in",
    "some results committed",
    "before the rest is queued again",
    "the rest on its way again",
    "before files are deleted",
    "half of the files deleted",
    "files deleted",
}
"""Points that are much like others: `make kills` tries them too."""

SPEED = ["--speed", "50000"]
FLAKY = [*SPEED, "--fault", "status=500,every=9", "--fault", "status=500,on=batch-line,every=7"]


def killed(world: Any, orders: dict[str, Any], *options: str) -> bool:
    """Whether a run with these orders was killed by them; else it came to its end."""
    process = world.start(*options, orders=orders)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 5, -signal.SIGKILL), err
    return process.returncode == -signal.SIGKILL


def finish(world: Any, kills: int) -> None:
    code, err, _ = world.run()
    assert code == 0, err
    world.check_finished(kills)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def states(world: Any) -> set[str]:
    return {shard.state for shard in world.shards()}


def seldom(names: Iterable[str], *but: str) -> list[Any]:
    """The names as parameters; all ``but`` these are left to `make kills`."""
    return [pytest.param(name, marks=[] if name in but else [pytest.mark.heavy]) for name in names]


@pytest.mark.parametrize("books", [FLAKY], indirect=True, ids=["flaky"])
class TestAtEachStep:
    @pytest.mark.parametrize("name", seldom(POINTS, *(POINTS.keys() - SELDOM)))
    def test_a_kill(self, make_hybrid: Any, name: str) -> None:
        point = POINTS[name]
        world = make_hybrid(rows=24, concurrency=3)
        assert killed(world, point.orders), "the step never came"
        assert point.states <= states(world)
        wait_for(lambda: len(world.live_batches()) >= point.batches)
        world.check_kept()
        finish(world, 1)
        world.check_uploads()

    def test_results_are_committed_little_by_little(self, make_hybrid: Any) -> None:
        """Of what is taken in when the kill comes, some is in the journal and some is not."""
        world = make_hybrid(rows=8, concurrency=1)
        assert killed(world, POINTS["some results committed"].orders)
        code, err, _ = world.run()
        assert code == 0, err
        found = re.search(r"^(\d) rows are in batches of an earlier run", err, re.MULTILINE)
        assert found is not None, err
        assert 0 < int(found[1]) < 6
        world.check_finished(1)

    @pytest.mark.heavy
    def test_one_kill_after_another(self, make_hybrid: Any) -> None:
        """Each run goes a little further than the one before it, and is killed too."""
        world = make_hybrid(rows=24, concurrency=3)
        kills = sum(killed(world, point.orders) for point in POINTS.values())
        assert kills > 5
        finish(world, kills)

    @pytest.mark.timeout(60 + 15 * KILLS)
    def test_kills_at_random(self, make_hybrid: Any) -> None:
        """At any moment and at any steps, in any order: also of a run that takes up what others left."""
        seed = random.randrange(10**9)
        print(f"seed {seed}, {KILLS} kills")  # noqa: T201 - shown when it fails
        chance = random.Random(seed)
        total = 0
        while total < KILLS:
            world = make_hybrid(rows=40, concurrency=4, order=chance.choice(["completion", "input"]))
            kills = 0
            while total < KILLS and self._killed_somewhere(world, chance):
                kills += 1
                total += 1
                world.check_kept()
            finish(world, kills)

    def _killed_somewhere(self, world: Any, chance: random.Random) -> bool:
        if chance.random() < 0.5:
            orders = POINTS[chance.choice(list(POINTS))].orders
            return killed(world, {**orders, "nth": chance.randrange(1, 6)})
        process = world.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.2, 2.0))
        ended = process.poll() is not None
        process.kill()
        _, err = process.communicate()
        assert not ended or process.returncode == 0, err
        return not ended


REFUSED = {
    "before the whole is dropped": {"at": f"{BOOK}.dropped"},
    "dropped": {"at": f"{BOOK}.dropped", "when": "after"},
    "before the first part": {"at": f"{BOOK}.submitting", "nth": 3},
    "between the parts": {"at": f"{BOOK}.submitted", "when": "after", "nth": 3},
}


@pytest.mark.parametrize("books", [[*SPEED, "--batch", "nth=1,fail=invalid_request"]], indirect=True, ids=["refusing"])
@pytest.mark.parametrize("name", seldom(REFUSED, "dropped"))
def test_kills_while_a_refused_batch_is_split(make_hybrid: Any, name: str) -> None:
    world = make_hybrid(rows=16, concurrency=2)
    assert killed(world, REFUSED[name])
    world.check_kept()
    finish(world, 1)
    assert "dropped" in states(world)


@pytest.mark.parametrize("books", [[*SPEED, "--enqueued-tokens", "60"]], indirect=True, ids=["narrow"])
@pytest.mark.parametrize("at", seldom([f"{BOOK}.dropped", f"{BOOK}.submitting", f"{BOOK}.submitted"]))
def test_kills_while_batches_wait_for_room(make_hybrid: Any, at: str) -> None:
    world = make_hybrid(rows=32, concurrency=2)
    kills = 0
    for nth in (4, 2, 1):
        kills += killed(world, {"at": at, "nth": nth, "set": {"promptmill._batches:LOOK_AGAIN_S": 0.1}})
    assert kills
    finish(world, kills)


@pytest.mark.parametrize("books", [[*SPEED, "--batch", "unlisted=1"]], indirect=True, ids=["late"])
@pytest.mark.parametrize(
    "name", seldom(["created, the reply not looked at", "before the id is written"], "before the id is written")
)
def test_a_batch_that_is_listed_late_is_not_made_again(make_hybrid: Any, name: str) -> None:
    world = make_hybrid(rows=8, concurrency=1)
    assert killed(world, POINTS[name].orders)
    finish(world, 1)


@pytest.mark.parametrize("books", [[*SPEED, "--fault", "reset,on=batches,every=3"]], indirect=True, ids=["resetting"])
def test_replies_that_are_lost(make_hybrid: Any) -> None:
    """Replies to create, list, look and cancel: the work was done each time."""
    world = make_hybrid(rows=60, concurrency=4)
    finish(world, 0)
    assert world.books.ledger()["outcomes"]["failed"] + world.books.ledger()["outcomes"]["done"] > 12


@pytest.mark.parametrize("books", [SPEED], indirect=True, ids=["fast"])
class TestOneReply:
    @pytest.mark.parametrize("at", seldom(["create", "_uploaded"]))
    def test_a_lost_reply_and_a_kill_right_after_it(self, make_hybrid: Any, at: str) -> None:
        world = make_hybrid(rows=8, concurrency=1)
        process = world.start(orders={"at": f"{BATCH}.{at}", "when": "after", "how": "lose", "set": {SETTLING: 5.0}})
        assert "may not have been created" in process.stderr.readline()
        process.kill()
        process.communicate()
        assert states(world) == {"submitting"}
        finish(world, 1)
        world.check_uploads()

    def test_of_two_at_once_the_second_makes_no_batch(self, make_hybrid: Any) -> None:
        """The first has created its batch and does not know it yet."""
        world = make_hybrid(rows=8, concurrency=1)
        first = world.start(orders={**CREATE, "when": "after", "how": "hold"})
        wait_for((world.root / "held").exists)
        for options in ((), ("--cancel-batches",)):
            code, err, _ = world.run(*options)
            assert code == 7, err
            assert f"process {first.pid} " in err
        assert len(world.live_batches()) == 1
        first.kill()
        first.communicate()
        finish(world, 1)

    @pytest.mark.parametrize("at", seldom(["_created", "find", "follow", "fetch", "forget"], "_created"))
    def test_a_kill_of_a_run_that_takes_up_a_killed_one(self, make_hybrid: Any, at: str) -> None:
        world = make_hybrid(rows=8, concurrency=1)
        assert killed(world, {"at": f"{BOOK}.submitting", "when": "after"})
        assert killed(world, {"at": f"promptmill._batching.desk:Desk.{at}", "when": "after"})
        finish(world, 2)
        world.check_uploads()
        assert len(world.shards()) == 1

    @pytest.mark.heavy
    def test_all_was_taken_in_and_the_run_that_finds_this_is_killed(self, make_hybrid: Any) -> None:
        world = make_hybrid(rows=8, concurrency=1)
        assert killed(world, {"at": f"{BOOK}.collected"})
        assert world.stored() == 8
        assert killed(world, {"at": f"{BOOK}.collected"})
        assert killed(world, {"at": f"{BOOK}.collected", "when": "after"})
        assert states(world) == {"collected"}
        finish(world, 3)

    @pytest.mark.heavy
    def test_files_at_the_server_are_deleted(self, make_hybrid: Any) -> None:
        """Those of a batch whose results were safe when the kill came, and only then."""
        world = make_hybrid(rows=8, concurrency=1, later={"delete_files": True})
        assert killed(world, {"at": f"{BOOK}.collected"})
        assert len(world.books.files(world.tags())) == 1
        finish(world, 1)

    def test_an_intent_without_a_batch_is_dropped_on_demand(self, make_hybrid: Any) -> None:
        world = make_hybrid(rows=8, concurrency=1)
        assert killed(world, POINTS["intent written"].orders)
        code, err, _ = world.run("--cancel-batches")
        assert code == 5, err
        assert states(world) == {"dropped"}
        assert world.live_batches() == []
        finish(world, 1)

    def test_rows_that_ask_the_same_are_paid_once(self, make_hybrid: Any) -> None:
        world = make_hybrid(rows=24, concurrency=2)
        rows = [{**world.row(at % 4), "id": f"r{at}"} for at in range(24)]
        (world.root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        world.write_job(dedupe=True)
        for name in ("created, the reply not looked at", "id written", "all results committed", "collected"):
            killed(world, POINTS[name].orders)
        code, err, _ = world.run()
        assert code == 0, err
        assert sorted(record["id"] for record in world.records()) == sorted(row["id"] for row in rows)
        world.check_batches()
        assert world.books.ledger()["paid_prompts"] == 4


STALLED = [*SPEED, "--batch", "first=3,stuck=in_progress,done=0.5"]
DETACHED = {
    "the last id written": POINTS["the last id written"].orders,
    "about to leave": {"at": "promptmill._engine:Engine.stop"},
    "leaving": {"at": "promptmill._engine:Engine.stop", "when": "after"},
    "intent written": POINTS["intent written"].orders,
}
CANCELLED = {
    "before the cancel": {"at": f"{BATCH}.cancel"},
    "cancelled": {"at": f"{BATCH}.cancel", "when": "after"},
    "all results committed": POINTS["all results committed"].orders,
    "collected": POINTS["collected"].orders,
    "all ended": {"at": "promptmill._engine:Engine.lane_ended", "when": "after"},
}


@pytest.mark.parametrize("books", [STALLED], indirect=True, ids=["stalled"])
class TestBatchesThatStall:
    """Three do half of their rows, and nothing more until they are cancelled."""

    @pytest.mark.parametrize("name", seldom(DETACHED, "about to leave"))
    def test_a_kill_of_a_run_that_would_leave_them(self, make_hybrid: Any, name: str) -> None:
        world = make_hybrid(rows=24, concurrency=3)
        assert killed(world, DETACHED[name], "--detach")
        code, err, _ = world.run("--detach")
        assert code == 5, err
        assert "18 requests are in 3 batches" in err
        self.check_under_way(world)
        assert world.run("--cancel-batches")[0] == 5
        finish(world, 1)

    @pytest.mark.parametrize("name", seldom(CANCELLED, "cancelled"))
    def test_a_kill_of_a_run_that_ends_them(self, make_hybrid: Any, name: str) -> None:
        world = make_hybrid(rows=24, concurrency=3)
        assert world.run("--detach")[0] == 5
        self.wait_until_stalled(world)
        assert killed(world, CANCELLED[name], "--cancel-batches")
        code, err, _ = world.run("--cancel-batches")
        assert code == 5, err  # the rest has no answer, also where nothing is left to be ended
        assert states(world) == {"collected"}
        assert {one["status"] for one in world.books.batches(world.tags())} == {"cancelled"}
        assert len(world.records()) == world.books.ledger()["paid_calls"] == 6 + 9
        finish(world, 0)

    def test_an_interrupted_run_leaves_them_and_says_so(self, make_hybrid: Any) -> None:
        world = make_hybrid(rows=24, concurrency=3)
        process = world.start()
        wait_for(lambda: states_now(world) == ["submitted"] * 3)
        self.wait_until_stalled(world)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, err
        assert "18 requests are in 3 batches, to go on without this process; the next run collects them\n" in err
        self.check_under_way(world)
        assert world.run("--cancel-batches")[0] == 5
        finish(world, 0)

    def wait_until_stalled(self, world: Any) -> None:
        wait_for(lambda: world.books.ledger()["operations"].get("batch-line", {}).get("answered") == 9)

    def check_under_way(self, world: Any) -> None:
        assert [shard.state for shard in world.shards()] == ["submitted"] * 3
        assert len(world.live_batches()) == 3
        assert world.books.ledger()["batches"]["ended"] == {}


def states_now(world: Any) -> list[str]:
    """Of a run that is under way."""
    with contextlib.suppress(StorageError), contextlib.closing(Store.read(world.state / DATABASE)) as store:
        return [shard.state for shard in store.shards()]
    return []  # its tables are not there yet
