"""The two files of a batch: lines go into them in the forms its script asks for."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from promptmill import jsontext
from promptmill_simulator.batch_lines import LineResult
from promptmill_simulator.batch_record import BatchRecord
from promptmill_simulator.batch_script import NoFile
from promptmill_simulator.batch_troubles import Fate
from promptmill_simulator.file_store import FileStore

NO_TROUBLE: Final = Fate()


class BatchOutput:
    """Collects the lines of one batch on disk, until they are shown as files."""

    def __init__(self, store: FileStore, record: BatchRecord) -> None:
        self._store = store
        self._record = record
        self._script = record.script
        self._output = store.new_path()
        self._errors = store.new_path()
        self._good: dict[str, Any] | None = None

    async def write(self, results: Iterable[tuple[Fate, LineResult]]) -> None:
        """Add lines."""
        output, errors = bytearray(), bytearray()
        for fate, result in results:
            if fate.missing:
                continue
            written = self._formed(result, fate) * fate.copies
            if result.good:
                self._good = result.value
            in_output = result.good or self._script.lines.errors_in == "output-file"
            (output if in_output else errors).extend(written)
        await anyio.to_thread.run_sync(_append, self._output, output, self._errors, errors)

    async def publish(self) -> None:
        """Show what there is as files of the API."""
        await anyio.to_thread.run_sync(_append, self._output, self._unknown(), self._errors, bytearray())
        self._record.output_file_id = self._published(self._output, "output", self._script.output_file)
        self._record.error_file_id = self._published(self._errors, "error", self._script.error_file)

    def _formed(self, result: LineResult, fate: Fate) -> bytes:
        line, form = dict(result.value), self._script.lines.error_form
        response = line["response"]
        if response is not None and not result.good and form != "response":
            error = response["body"]["error"]
            line["error"] = {"code": error["code"] or error["type"], "message": error["message"]}
            line["response"] = response = None
        if response is None and form == "absent":
            del line["response"]
        if response is not None and fate.text_body:
            line["response"] = response | {"body": jsontext.encode(response["body"]).decode()}
        return jsontext.encode(line) + b"\n"

    def _unknown(self) -> bytearray:
        """Answers to questions nobody asked: like a good line, under other names."""
        lines = bytearray()
        for number in range(1, self._script.lines.unknown + 1):
            names = {"id": f"batch_req_unknown_{number}", "custom_id": f"unknown-{number}"}
            lines += jsontext.encode((self._good or {"response": None, "error": None}) | names) + b"\n"
        return lines

    def _published(self, path: Path, word: str, without_lines: NoFile) -> str | None:
        """Enter a written file into the store; one that was never written does not exist for the API either."""
        if not path.exists():
            if without_lines != "empty-file":
                return None if without_lines == "none" else ""
            path.touch()
        stored = self._store.add(
            path,
            filename=f"{self._record.id}_{word}.jsonl",
            purpose="batch_output",
            lifetime=self._record.order.output_lifetime,
        )
        return stored.id


def _append(output: Path, good: bytearray, errors: Path, bad: bytearray) -> None:
    with ExitStack() as stack:
        for path, data in ((output, good), (errors, bad)):
            if data:
                stack.enter_context(path.open("ab")).write(data)
