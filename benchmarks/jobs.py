"""Job files for the command line, each in a folder of its own so that no run finds the journal of another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

LIMITS = "{rpm: 1000000000, tpm: 1000000000000}"
"""Never reached, but the pacer counts every request."""


def questions(prompt: Callable[[int], str], rows: int) -> Iterator[str]:
    """Lines of a jsonl input."""
    for number in range(rows):
        yield json.dumps({"id": f"q{number}", "question": prompt(number)}) + "\n"


def write_job(folder: Path, provider: str, lines: Iterable[str]) -> Path:
    """A job with everything on: ids, a template, parameters, limits, the journal, and a jsonl sink.

    Args:
        folder: a new folder.
        provider: the provider's options as YAML, in braces.
        lines: the input.
    """
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(lines)
    job = folder / "job.yaml"
    job.write_text(
        f"""version: 1
input: {{path: questions.jsonl, id: id, prompt: "{{{{ question }}}}"}}
params: {{temperature: 0, max_tokens: 256}}
providers:
  bench: {provider}
output: answers.jsonl
""",
        encoding="utf-8",
    )
    return job


def openai_chat(url: str, concurrency: int, backend: str = "aiohttp", limits: str = LIMITS) -> str:
    """Options of an ``openai-chat`` provider."""
    http = "" if backend == "aiohttp" else f", http: {{backend: {backend}}}"
    return (
        f'{{use: openai-chat, model: bench-model, base_url: "{url}", '
        f"max_concurrency: {concurrency}, limits: {limits}{http}}}"
    )
