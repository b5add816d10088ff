"""Provider ``llama``: a GGUF model in this process, on the server engine of llama.cpp."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import Field

from promptmill.errors import UsageError
from promptmill.hookspecs import hookimpl
from promptmill.models import Request, Response, TokenEstimate
from promptmill.options import BuildContext, ProviderOptions, Register
from promptmill_llama.catalogue import SUFFIX, find_model
from promptmill_llama.chat import chat_body
from promptmill_llama.closing import wait_until_idle
from promptmill_llama.replies import read_reply
from promptmill_local import ThreadedProvider

DEFAULT_MODEL: Final = "smollm2-135m"
DEFAULT_SYSTEM: Final = "You are a helpful assistant."
MAGIC: Final = b"GGUF"

CLOSE_GRACE: Final = 30.0
"""Seconds to wait at the end for threads in llama.cpp: one prompt batch of a large model on a slow processor."""

PROMPT_BATCH: Final = 128
"""Prompt tokens worked on at a time. An abandoned call leaves between two batches (below a second on one core with a
small model), and a long prompt does not hold up the other slots. Measured from
64 to 2048, the processor time of a 1200 token prompt is the same."""

STRANGER_PATIENCE: Final = 1
"""Seconds the port, which nobody uses, waits for the rest of what somebody began to send."""


class LlamaProvider(ThreadedProvider):
    """Answers from a GGUF file. One worker thread a slot; llama.cpp batches the slots together.

    Args:
        model: a known name, or the path of a .gguf file relative to ``base_dir``.
        slots: requests worked on at once.
        context: tokens of prompt and answer together, for each slot.
        threads: processor threads that compute.
        system: the system prompt of requests that have none.
        max_tokens: the most tokens of an answer when the request does not say.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        base_dir: Path | None = None,
        slots: int = 4,
        context: int = 2048,
        threads: int = 1,
        system: str = DEFAULT_SYSTEM,
        max_tokens: int = 256,
    ) -> None:
        super().__init__(slots=slots, close_grace=CLOSE_GRACE)
        self.model = self._name = Path(model).stem if model.endswith(SUFFIX) else model
        self._wanted = model
        self._base_dir = base_dir or Path.cwd()
        self._context = context
        self._threads = threads
        self._system = system
        self._max_tokens = max_tokens
        self._server: Any = None

    def estimate(self, request: Request) -> TokenEstimate:
        estimate = super().estimate(request)
        if estimate.output_tokens is not None:
            return estimate
        return msgspec.structs.replace(estimate, output_tokens=self._max_tokens)

    def load(self) -> None:
        """Load the weights and start the engine.

        Raises:
            UsageError: the file is not there (E0420), unknown (E0421), or cannot be loaded (E0423).
        """
        path = find_model(self._wanted, self._base_dir)
        # llama.cpp says only that it failed, so the most likely mistake is looked for here.
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise UsageError(f"{str(path)!r} is not a GGUF file", code="E0423")
        import xllamacpp  # type: ignore[import-untyped]

        try:
            self._server = xllamacpp.Server(self._engine_params(xllamacpp.CommonParams(), path))
        except RuntimeError as error:
            raise UsageError(
                f"llama.cpp cannot load {str(path)!r} with {self.slots} slots of {self._context} tokens",
                code="E0423",
                hint="the file may be cut off or too new, or memory too small; try it with slots: 1 and context: 512",
            ) from error

    def _engine_params(self, params: Any, path: Path) -> Any:
        params.model.path = str(path)
        params.n_parallel = self.slots
        # llama.cpp divides the whole among the slots.
        params.n_ctx = self.slots * self._context
        params.fit_params = False
        params.n_batch = params.n_ubatch = PROMPT_BATCH
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        # By default it would keep up to 8 GiB of old prompts.
        params.cache_ram_mib = 0
        # Its log goes to stderr, which is the user's.
        params.verbosity = -1
        # It always listens. Nobody is to talk to it but this process, which does not use the port.
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [secrets.token_urlsafe(32)]
        params.n_threads_http = 1
        params.ui = params.endpoint_slots = params.endpoint_props = False
        # It ends only when the stranger it is reading from has said all; by default that may take an hour.
        params.timeout_read = params.timeout_write = STRANGER_PATIENCE
        # How to see that it may be freed; the port tells them only to who has the key.
        params.endpoint_metrics = True
        return params

    def unload(self) -> None:
        """Stop the engine and give the memory and the port back."""
        wait_until_idle(self._server)
        self._server = None

    def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            Permanent: the request asks for too much or for what the model cannot do.
            Transient: the engine failed.
        """
        body = chat_body(request, system=self._system, max_tokens=self._max_tokens)
        chunks: list[bytes] = []

        def take(chunk: bytes) -> bool:
            chunks.append(chunk)
            return self.abandoned()

        self._server.handle_chat_completions(body, take)
        return read_reply(chunks, self._name)


class LlamaOptions(ProviderOptions):
    """A GGUF model in this process, on llama.cpp."""

    how_only = ProviderOptions.how_only | {"slots", "threads"}

    model: str = Field(DEFAULT_MODEL, min_length=1, description="A known model, or the path of a .gguf file.")
    slots: int = Field(4, ge=1, le=64, description="Requests worked on at once.")
    context: int = Field(2048, ge=64, description="Tokens of prompt and answer together, for each slot.")
    threads: int = Field(1, ge=1, le=512, description="Processor threads that compute.")
    system: str = Field(DEFAULT_SYSTEM, min_length=1, description="The system prompt of requests that have none.")
    max_tokens: int = Field(256, ge=1, description="Most tokens of an answer when the request does not say.")

    def build(self, context: BuildContext) -> LlamaProvider:
        return LlamaProvider(
            self.model,
            base_dir=context.base_dir,
            slots=self.slots,
            context=self.context,
            threads=self.threads,
            system=self.system,
            max_tokens=self.max_tokens,
        )


@hookimpl
def register_provider(register: Register) -> None:
    register("llama", LlamaOptions)
