"""The real model: answers, overlap, cancellation, and nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from pydantic import ValidationError

from promptmill.errors import Permanent, UsageError
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Message, Request, Response
from promptmill.options import BuildContext
from promptmill.testing import ProviderContract
from promptmill_llama import LlamaOptions, LlamaProvider
from promptmill_llama.provider import register_provider

NO_TIMEOUT = 600.0
STORY = "Write a very long story about the sea."


def ask(text: str, **params: object) -> Request:
    return Request(id=text, messages=(Message("user", text),), params={"temperature": 0, **params})


def provider_of(weights: Path, **settings: object) -> LlamaProvider:
    options = LlamaOptions.model_validate({"model": weights.name, **settings})
    return options.build(BuildContext(name="local", base_dir=weights.parent))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class TestContract(ProviderContract):
    options_class = LlamaOptions
    text = "Say a number."
    limit = 8

    @pytest.fixture(autouse=True)
    def _take_weights(self, smollm: Path) -> None:
        self.weights = smollm

    def settings(self) -> dict[str, object]:
        return {"model": str(self.weights), "context": 512}

    def good_request(self, number: int = 1) -> Request:
        return ask(f"{self.text} {number}", max_tokens=self.limit)

    def make_failing(self) -> RealtimeProvider:
        self.text = "too many words " * 400
        return self.build()  # type: ignore[no-any-return]

    def make_hanging(self) -> RealtimeProvider:
        self.text, self.limit = STORY, 400
        return self.build()  # type: ignore[no-any-return]


async def test_a_real_answer(smollm: Path) -> None:
    async with provider_of(smollm) as provider:
        response = await provider.complete(ask("What is the capital of France?", max_tokens=24), timeout=NO_TIMEOUT)
        again = await provider.complete(ask("What is the capital of France?", max_tokens=24), timeout=NO_TIMEOUT)
    assert "Paris" in str(response.text)
    assert response.model == "SmolLM2-135M-Instruct.Q4_1"
    assert response.finish_reason in ("stop", "length")
    assert response.usage.input_tokens is not None
    assert response.usage.input_tokens > 10
    assert response.usage.output_tokens is not None
    assert 1 <= response.usage.output_tokens <= 24
    assert again.text == response.text


async def test_the_length_is_bounded_and_the_reason_told(smollm: Path) -> None:
    async with provider_of(smollm, max_tokens=5) as provider:
        response = await provider.complete(ask(STORY), timeout=NO_TIMEOUT)
        stopped = await provider.complete(ask("Count: one two three", stop=["e"], max_tokens=40), timeout=NO_TIMEOUT)
    assert (response.finish_reason, response.usage.output_tokens) == ("length", 5)
    assert stopped.finish_reason == "stop"
    assert "e" not in str(stopped.text)


async def test_a_known_name_is_the_model_of_the_record(smollm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_MODELS_DIR", str(smollm.parent))
    async with LlamaProvider("smollm2-135m", slots=1) as provider:
        assert provider.model == "smollm2-135m"
        assert (await provider.complete(ask("Hi", max_tokens=1), timeout=NO_TIMEOUT)).model == "smollm2-135m"


async def test_a_prompt_longer_than_a_slot_is_refused_and_the_next_answered(smollm: Path) -> None:
    async with provider_of(smollm, context=256, slots=2) as provider:
        with pytest.raises(Permanent, match="exceeds the available context size") as caught:
            await provider.complete(ask("word " * 300), timeout=NO_TIMEOUT)
        assert caught.value.code == "context_length_exceeded"
        assert not caught.value.retryable
        assert (await provider.complete(ask("Hi", max_tokens=2), timeout=NO_TIMEOUT)).text


async def test_a_parameter_llama_cpp_refuses_is_permanent(smollm: Path) -> None:
    async with provider_of(smollm, slots=1) as provider:
        with pytest.raises(Permanent, match="temperature"):
            await provider.complete(ask("Hi", temperature="hot"), timeout=NO_TIMEOUT)


class Watched(LlamaProvider):
    """Notes at each chunk of a reply whose it is, and how often a chunk came although its call was abandoned."""

    def __init__(self, weights: Path, slots: int) -> None:
        super().__init__(weights.name, base_dir=weights.parent, slots=slots)
        self.inside: set[str] = set()
        self.most = 0
        self.stops = 0
        self._thread = threading.local()

    def generate(self, request: Request) -> Response:
        self._thread.name = request.id
        try:
            return super().generate(request)
        finally:
            self.inside.discard(request.id)

    def abandoned(self) -> bool:
        self.inside.add(self._thread.name)
        self.most = max(self.most, len(self.inside))
        abandoned = super().abandoned()
        self.stops += abandoned
        return abandoned


async def test_four_requests_are_worked_on_at_once(smollm: Path) -> None:
    provider = Watched(smollm, slots=4)
    async with provider, anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(lambda name=name: provider.complete(ask(f"{STORY} {name}", max_tokens=24), timeout=60))
    assert provider.most == 4


@pytest.mark.parametrize("text", ["words without an end " * 250, STORY], ids=["in its prompt", "in its answer"])
async def test_a_cancelled_call_leaves_at_the_next_chunk(smollm: Path, text: str) -> None:
    provider = Watched(smollm, slots=1)
    async with provider:
        with anyio.move_on_after(0.3) as scope:
            await provider.complete(ask(text, max_tokens=1500), timeout=NO_TIMEOUT)
        assert scope.cancelled_caught
        assert (await provider.complete(ask("Hi", max_tokens=2), timeout=NO_TIMEOUT)).text
    assert provider.stops == 1


async def test_nothing_is_printed_and_no_port_or_native_thread_stays(
    smollm: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    after_first = 0
    for turn in range(4):
        provider = provider_of(smollm)
        async with provider:
            address = urlsplit(provider._server.listening_address)
            await provider.complete(ask("Hi", max_tokens=2), timeout=NO_TIMEOUT)
        assert address.hostname == "127.0.0.1"
        with pytest.raises(OSError), socket.create_connection((address.hostname, address.port), timeout=5):
            pass
        if turn == 0:
            # The engine keeps one thread, for its log. The system takes a moment to forget a thread that has ended.
            await anyio.sleep(0.1)
            after_first = _native_threads()
    with anyio.fail_after(10):
        while _native_threads() > after_first:
            await anyio.sleep(0.01)
    assert capfd.readouterr() == ("", "")


def _native_threads() -> int:
    """Threads of this process, native ones too, where the system tells (Linux)."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 0


async def test_the_port_is_locked(smollm: Path) -> None:
    async with provider_of(smollm, slots=1) as provider:
        address = provider._server.listening_address
        call = urllib.request.Request(
            f"{address}/v1/chat/completions", data=b"{}", headers={"Content-Type": "application/json"}
        )

        def knock() -> int:
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call, timeout=10)
            caught.value.close()
            return caught.value.code

        assert await anyio.to_thread.run_sync(knock) == 401


async def test_a_missing_file_tells_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_MODELS_DIR", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        await LlamaProvider("smollm2-135m").aopen()
    assert caught.value.code == "E0420"
    assert "promptmill models fetch smollm2-135m" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF but cut off"])
async def test_a_broken_file_is_a_usage_error(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.gguf") as caught:
        await provider_of(tmp_path / "broken.gguf").aopen()
    assert caught.value.code == "E0423"
    assert capfd.readouterr() == ("", "")


EXIT_IN_THE_MIDDLE = """
import sys, anyio
from promptmill.models import Message, Request
from promptmill_llama import LlamaProvider

async def main():
    provider = LlamaProvider(sys.argv[1], slots=2)
    await provider.aopen()
    request = Request(id="1", messages=(Message("user", "Write a very long story."),), params={"max_tokens": 1500})
    with anyio.move_on_after(0.5):
        await provider.complete(request, timeout=60)
    with anyio.move_on_after(0.5):
        await provider.complete(request, timeout=60)

anyio.run(main)
sys.exit(9)
"""


def test_a_process_that_ends_without_closing_keeps_its_exit_code(smollm: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT_IN_THE_MIDDLE, str(smollm)], check=False, capture_output=True, env=dict(os.environ)
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, b"", b"")


def test_the_estimate_knows_the_default_length() -> None:
    provider = LlamaProvider("x.gguf", max_tokens=99)
    assert provider.estimate(ask("Hi")).output_tokens == 99
    assert provider.estimate(ask("Hi", max_tokens=7)).output_tokens == 7


def test_options_become_the_provider() -> None:
    provider = LlamaOptions(slots=3).build(BuildContext(name="local"))
    assert (provider.model, provider.concurrency, provider.slots) == ("smollm2-135m", 3, 3)


def test_the_identity_is_what_changes_answers() -> None:
    # A longer context may fit a prompt that did not, so it belongs to what.
    what = {"model": "mine.gguf", "context": 512, "system": "Be brief.", "max_tokens": 9}
    how = {"slots": 2, "threads": 3, "max_concurrency": 2, "limits": {"rpm": 5}, "timeout": "9s"}
    assert LlamaOptions.model_validate(what | how).identity() == what


@pytest.mark.parametrize("settings", [{"slots": 0}, {"context": 1}, {"threads": 0}, {"system": ""}, {"gpu": True}])
def test_wrong_options_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LlamaOptions.model_validate(settings)


def test_the_entry_point_registers_the_options() -> None:
    (point,) = [point for point in entry_points(group="promptmill") if point.name == "provider.llama"]
    names: dict[str, object] = {}
    register_provider(names.__setitem__)
    assert point.load().register_provider is register_provider
    assert names == {"llama": LlamaOptions}
