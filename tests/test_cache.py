"""Answers kept from run to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptmill._cache import ResponseCache
from promptmill.errors import StorageError
from promptmill.models import Request
from promptmill.testing import request, result

PROVIDERS: dict[str, Any] = {"a": {"use": "x", "model": "m"}, "b": {"use": "x", "model": "n"}}


async def test_an_answer_is_found_by_the_next_run(tmp_path: Path) -> None:
    asked = request("what", id="1", index=0)
    async with ResponseCache(tmp_path / "deep" / "cache.db", PROVIDERS) as cache:
        assert await cache.find([(asked, "a")]) == {}
        cache.request_finished(result("this", id="1", index=0, provider="a"))
        await cache.save()
    async with ResponseCache(tmp_path / "deep" / "cache.db", PROVIDERS) as cache:
        found = await cache.find([(request("what", id="other", index=7), "a"), (request("else", index=8), "a")])
    assert {index: one.text for index, one in found.items()} == {7: "this"}


async def test_what_is_not_saved_yet_is_saved_at_the_end(tmp_path: Path) -> None:
    async with ResponseCache(tmp_path / "cache.db", PROVIDERS) as cache:
        await cache.find([(request("what", index=0), "a")])
        cache.request_finished(result("this", index=0, provider="a"))
    async with ResponseCache(tmp_path / "cache.db", PROVIDERS) as cache:
        assert list(await cache.find([(request("what", index=0), "a")])) == [0]


@pytest.mark.parametrize(
    ("other", "provider"),
    [
        (request("what", index=0, params={"temperature": 1}), "a"),
        (request("what", index=0), "b"),
        (request("what?", index=0), "a"),
    ],
)
async def test_what_changes_the_answer_is_part_of_the_key(tmp_path: Path, other: Request, provider: str) -> None:
    async with ResponseCache(tmp_path / "cache.db", PROVIDERS) as cache:
        await cache.find([(request("what", index=0), "a")])
        cache.request_finished(result("this", index=0, provider="a"))
        await cache.save()
        assert await cache.find([(other, provider)]) == {}


async def test_failures_and_answers_of_a_fallback_are_not_kept(tmp_path: Path) -> None:
    asked = [request("one", index=0), request("two", index=1)]
    async with ResponseCache(tmp_path / "cache.db", PROVIDERS) as cache:
        await cache.find([(one, "a") for one in asked])
        cache.request_finished(result(None, index=0, status="failed", provider="a"))
        cache.request_finished(result("from b", index=1, provider="b"))
        await cache.save()
        assert await cache.find([(one, "a") for one in asked]) == {}


async def test_identical_requests_in_one_look_are_each_answered(tmp_path: Path) -> None:
    async with ResponseCache(tmp_path / "cache.db", PROVIDERS) as cache:
        await cache.find([(request("what", index=0), "a")])
        cache.request_finished(result("this", index=0, provider="a"))
        await cache.save()
        found = await cache.find([(request("what", index=1), "a"), (request("what", index=2), "a")])
    assert sorted(found) == [1, 2]


async def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_text("this is no database, but a text of some length")
    with pytest.raises(StorageError, match=r"cache\.db"):
        async with ResponseCache(tmp_path / "cache.db", PROVIDERS):
            pass


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cache\.db"):
        async with ResponseCache(tmp_path / "file" / "cache.db", PROVIDERS):
            pass


async def test_answers_that_cannot_be_saved_do_not_bar_the_next(tmp_path: Path) -> None:
    async with ResponseCache(tmp_path / "cache.db", PROVIDERS) as cache:
        await cache.find([(request("one", index=0), "a"), (request("two", index=1), "a")])
        cache.request_finished(result("this", index=0, provider="a"))
        cache._new = [(b"key", None)]  # type: ignore[list-item]
        with pytest.raises(StorageError):
            await cache.save()
        cache.request_finished(result("that", index=1, provider="a"))
        await cache.save()
        assert [one.text for one in (await cache.find([(request("two", index=2), "a")])).values()] == ["that"]
