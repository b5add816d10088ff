"""Two providers of one account keep to its limits together."""

from __future__ import annotations

import pytest
from limited_server import Server

from promptmill import Pipeline, Route
from promptmill.clock import VirtualClock
from promptmill.models import Request
from promptmill.options import BuildContext, Limits, ProviderOptions
from promptmill.testing import request

SERVERS: list[Server] = []


class ServerOptions(ProviderOptions):
    def build(self, context: BuildContext) -> Server:
        return SERVERS[-1]


class Even:
    def matches(self, request: Request) -> bool:
        return request.index % 2 == 0


@pytest.mark.parametrize("shared", [True, False])
def test_they_are_not_refused_when_they_are_a_group(shared: bool) -> None:
    clock = VirtualClock()
    SERVERS.append(Server(clock, rpm=600.0, kind="second"))
    group = "account" if shared else None
    providers = {
        "a": ServerOptions(limits=Limits(rpm=600), limit_group=group),
        "b": ServerOptions(limits=Limits(rpm=900), limit_group=group),
    }

    async def main() -> None:
        pipeline = Pipeline(providers, [Route("a", Even()), Route("b")], clock=clock)
        results = await pipeline.gather([request(id=str(at), index=at) for at in range(600)])
        assert [one.provider for one in results] == ["a", "b"] * 300

    clock.run(main)
    assert (SERVERS[-1].refused == []) == shared
    assert 58 <= clock.now() <= (70 if shared else 100)


def test_a_pool_is_no_group() -> None:
    with pytest.raises(ValueError, match="no `limit_group`"):
        ServerOptions(limit_group="x", pool=({"model": "m"},))
