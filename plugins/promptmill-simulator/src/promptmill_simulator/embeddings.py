"""POST /v1/embeddings. Shapes: ``CreateEmbeddingResponse`` of the OpenAPI description."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any, ClassVar, Final

from promptmill import jsontext
from promptmill.jsontext import JSON
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.fields import optional_count, required, required_text, wrong_type
from promptmill_simulator.operation import Answered, Operation
from promptmill_simulator.task import Task, count_tokens

DEFAULT_DIMENSIONS: Final = 1536
"""Source: the documentation of text-embedding-3-small."""
MAX_INPUTS: Final = 2048
MAX_DIMENSIONS: Final = 4096
MAX_INPUT_TOKENS: Final = 8192
MAX_TOTAL_TOKENS: Final = 300_000
"""Source of the limits on inputs and tokens: the API reference. That on dimensions is the simulator's own."""


class Embeddings(Operation):
    """Unit vectors that depend on the input and the seed alone."""

    name: ClassVar[str] = "embeddings"
    path: ClassVar[str] = "/v1/embeddings"

    def read(self, body: dict[str, Any]) -> Task:
        model = required_text(body, "model")
        inputs = _inputs_of(required(body, "input"))
        counts = [count_tokens(item) if isinstance(item, str) else len(item) for item in inputs]
        if max(counts) > MAX_INPUT_TOKENS:
            raise ApiError(
                400,
                f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens, however you requested "
                f"{max(counts)} tokens. Please reduce your prompt.",
                code="context_length_exceeded",
            )
        if sum(counts) > MAX_TOTAL_TOKENS:
            raise ApiError(
                400,
                f"Requested {sum(counts)} tokens, max {MAX_TOTAL_TOKENS} tokens per request",
                kind="max_tokens_per_request",
                code="max_tokens_per_request",
            )
        optional_count(body, "dimensions", most=MAX_DIMENSIONS)
        return Task(
            operation=self.name,
            model=model,
            prompt="\n".join(item for item in inputs if isinstance(item, str)),
            digest=self.tools.digester.digest(jsontext.encode(inputs)),
            input_tokens=sum(counts),
            max_output_tokens=None,
            body=body,
        )

    async def answer(self, task: Task) -> Answered:
        inputs = _inputs_of(task.body["input"])
        size = task.body.get("dimensions") or DEFAULT_DIMENSIONS
        packed = task.body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": self._vector(item, size, packed)}
            for index, item in enumerate(inputs)
        ]
        usage = {"prompt_tokens": task.input_tokens, "total_tokens": task.input_tokens}
        body = {"object": "list", "data": data, "model": task.model, "usage": usage}
        return Answered(body, task.input_tokens, 0)

    def spoil(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        if fault == "error-in-200":
            error = ApiError(500, "No embedding data received.", kind="server_error", code="server_error")
            return error.body
        if fault == "no-usage":
            del body["usage"]
        else:
            body["data"] = []
        return body

    def _vector(self, item: str | list[int], size: int, packed: bool) -> list[float] | str:
        digest = self.tools.digester.digest(jsontext.encode(item))
        raw = struct.unpack(f"<{size}h", hashlib.shake_128(digest).digest(2 * size))
        length = math.sqrt(sum(value * value for value in raw)) or 1.0
        vector = [value / length for value in raw]
        return base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if packed else vector


def _inputs_of(value: JSON) -> list[str | list[int]]:
    """One item for each vector asked for; raises ApiError."""
    if isinstance(value, str):
        items: list[Any] = [value]
    elif isinstance(value, list):
        items = [value] if value and all(isinstance(item, int) for item in value) else value
    else:
        raise wrong_type("input", "a string or an array", value)
    if not 1 <= len(items) <= MAX_INPUTS:
        raise ApiError(400, f"'$.input' must have 1 to {MAX_INPUTS} items, not {len(items)}.", param="input")
    for item in items:
        tokens = isinstance(item, list) and all(isinstance(token, int) for token in item)
        if not item or not (isinstance(item, str) or tokens):
            raise ApiError(400, "'$.input' is invalid. Please check the API reference.", param="input")
    return items
