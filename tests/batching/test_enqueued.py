"""The enqueued-token limit: learned from refusals, kept from then on, and never a reason to stand still."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from promptmill._batching.enqueued import HEADROOM, EnqueuedTokens


class Provider:
    """Refuses a batch when more than ``limit`` tokens would wait; what waits ends in the order it came."""

    def __init__(self, limit: int, names_it: bool) -> None:
        self.limit = limit
        self.names_it = names_it
        self.waiting: dict[str, int] = {}
        self.refusals = 0

    def take(self, tag: str, tokens: int) -> bool:
        if sum(self.waiting.values()) + tokens > self.limit:
            self.refusals += 1
            return False
        self.waiting[tag] = tokens
        return True


def drained(sizes: Sequence[int], provider: Provider, ledger: EnqueuedTokens) -> list[int]:
    """Submit shards of these sizes as a lane does, splitting what never fits. Returns the sizes that were done."""
    todo = [(f"shard-{at}", size) for at, size in enumerate(sizes)]
    done = []
    for _ in range(100 * (len(sizes) + 1)):
        if not todo and not provider.waiting:
            break
        if todo and ledger.fits(todo[0][1]):
            tag, size = todo.pop(0)
            ledger.add(tag, size)
            if provider.take(tag, size):
                continue
            if ledger.refused(tag, provider.limit if provider.names_it else None):
                todo.insert(0, (tag, size))
            else:
                assert size > 1
                todo[:0] = [(f"{tag}a", size // 2), (f"{tag}b", size - size // 2)]
        elif provider.waiting:
            tag = next(iter(provider.waiting))
            done.append(provider.waiting.pop(tag))
            ledger.remove(tag)
        else:
            raise AssertionError("nothing runs and nothing may be submitted")
    else:
        raise AssertionError("it goes on for ever")
    return done


@given(st.lists(st.integers(1, 300), max_size=20), st.integers(10, 400), st.booleans())
def test_all_shards_get_through_whatever_the_limit(sizes: list[int], limit: int, names_it: bool) -> None:
    provider = Provider(limit, names_it)
    ledger = EnqueuedTokens()
    assert sum(drained(sizes, provider, ledger)) == sum(sizes)
    assert ledger.waiting == 0


@given(st.lists(st.integers(1, 95), min_size=1, max_size=30))
def test_a_named_limit_is_learned_from_one_refusal(sizes: list[int]) -> None:
    provider = Provider(100, names_it=True)
    drained(sizes, provider, EnqueuedTokens())
    assert provider.refusals <= 1


@given(st.lists(st.integers(1, 95), min_size=1, max_size=30))
def test_a_known_limit_is_never_passed(sizes: list[int]) -> None:
    provider = Provider(100, names_it=True)
    drained(sizes, provider, EnqueuedTokens(100))
    assert provider.refusals == 0


def test_room_is_used_up_to_the_headroom() -> None:
    ledger = EnqueuedTokens(1000)
    ledger.add("a", 500)
    ledger.add("a", 500)
    assert ledger.waiting == 500
    assert ledger.fits(int(1000 * HEADROOM) - 500)
    assert not ledger.fits(int(1000 * HEADROOM) - 499)
    ledger.remove("a")
    ledger.remove("a")
    assert ledger.fits(5000)


def test_a_shard_larger_than_the_whole_limit_has_to_be_split() -> None:
    ledger = EnqueuedTokens()
    ledger.add("a", 3000)
    assert not ledger.refused("a", 2000)
    ledger.add("b", 3000)
    assert not ledger.refused("b", None)
    ledger.add("c", 1500)
    assert ledger.refused("c", 2000)
    assert ledger.limit == 2000
