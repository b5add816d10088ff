"""The results of a run, finished or not, in another form. Nothing is called and nothing is paid."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from pydantic import ValidationError

from promptmill._journal import DATABASE, Store
from promptmill._registry import Registry
from promptmill._statepaths import is_file
from promptmill.errors import UsageError
from promptmill.files import rename
from promptmill.jsontext import JSON, BadJSON, decode, encode
from promptmill.models import Result
from promptmill.options import BuildContext, SinkOptions

BATCH_OUTPUT: Final = "batch-output"
"""The lines a batch API answers with: ``{id, custom_id, response: {status_code, request_id, body}, error}``."""

_ROWS: Final = 1000

_decode = msgspec.json.Decoder(Result).decode


def batch_lines(directory: Path) -> Iterator[bytes]:
    """Every result as a line of batch output. The body is the provider's own where there was one."""
    for seq, record, body in _rows(directory):
        yield encode(_batch_line(seq, _decode(record), body)) + b"\n"


def records(directory: Path) -> Iterator[bytes]:
    """Every result as a line of the jsonl sink."""
    for _, record, _ in _rows(directory):
        yield record + b"\n"


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Another name to write to, which becomes ``path`` when all is written: what is there under it is whole.

    A path with something in it stays itself: whoever writes it refuses it, or adds to it in one step.
    """
    if path.is_symlink() or (path.exists() and not _is_empty(path)):
        yield path
        return
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        rename(part, path)
    except BaseException:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
        raise


def _is_empty(path: Path) -> bool:
    return not any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size == 0


async def export(directory: Path, sink_name: str, path: Path) -> int:
    """Write every result with the sink registered as ``sink_name`` to ``path``, which must be new or empty.

    Returns the number of results.

    Raises:
        PluginError: the sink is unknown, or what it needs is not installed.
        UsageError: it writes to no file, or not to this one (E0133).
        StorageError: the file is not new, or cannot be written.
    """
    options = _options_for(sink_name, path)
    count = 0
    async with options.build(BuildContext(name=sink_name)) as sink:
        await sink.start(None)
        group: list[Result] = []
        for _, record, _ in _rows(directory):
            group.append(_decode(record))
            count += 1
            if len(group) >= _ROWS:
                await sink.write(group)
                group = []
        await sink.write(group)
        await sink.commit()
    return count


def _options_for(sink_name: str, path: Path) -> SinkOptions:
    model: type[SinkOptions] = Registry().get("sink", sink_name)
    if "path" not in model.model_fields:
        raise UsageError(
            f"the sink {sink_name!r} writes to no file, and export does",
            code="E0133",
            hint="add the sink to the job and run the job again: a finished run fills it from its journal for nothing",
        )
    try:
        return model.model_validate({"path": str(path)})
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"export cannot use the sink {sink_name!r}: {key}: {first['msg']}", code="E0133") from error


def _rows(directory: Path) -> Iterator[tuple[int, bytes, bytes | None]]:
    if not is_file(directory / DATABASE):
        raise UsageError(f"there is no run in {str(directory)!r}", code="E0130", hint="`promptmill run JOB` starts one")
    store = Store.read(directory / DATABASE)
    try:
        after = 0
        while rows := store.bodies(after, _ROWS):
            yield from rows
            after = rows[-1][0]
    finally:
        store.close()


def _batch_line(seq: int, result: Result, body: bytes | None) -> dict[str, JSON]:
    line: dict[str, JSON] = {"id": f"batch_req_{seq}", "custom_id": result.id, "response": None, "error": None}
    if result.error is not None:
        line["error"] = {"code": result.error.code, "message": result.error.message}
    else:
        line["response"] = {"status_code": 200, "request_id": f"req_{seq}", "body": _body(result, body)}
    return line


def _body(result: Result, body: bytes | None) -> JSON:
    try:
        return decode(body) if body else _made_body(result)
    except BadJSON:
        return _made_body(result)


def _made_body(result: Result) -> dict[str, JSON]:
    """A chat completion of what is known, for providers that send no JSON."""
    usage = result.usage
    message = {"role": "assistant", "content": result.text, "refusal": None}
    known = usage.input_tokens is not None and usage.output_tokens is not None
    total = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return {
        "id": f"chatcmpl-{result.index}",
        "object": "chat.completion",
        "model": result.model,
        "choices": [{"index": 0, "finish_reason": result.finish_reason, "message": message}],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": total,
        }
        if known
        else None,
    }
