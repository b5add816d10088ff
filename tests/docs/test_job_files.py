"""Every job file that is shown is one: whole files as they are, parts of one within a job that has the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from promptmill._config import load_job
from promptmill._config.spec import JobSpec
from promptmill._registry import Registry

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
KEYS = {name for name, field in JobSpec.model_fields.items() if field}

Blocks = Callable[[Path], list[Any]]


def _named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _whole(part: dict[str, Any]) -> dict[str, Any]:
    """A job with ``part`` in it and the least there must be besides."""
    job: dict[str, Any] = {"version": 1, "input": {"path": "prompts.jsonl"}, **part}
    if "output" not in job and "sinks" not in job:
        job["output"] = "answers.jsonl"
    routes = job.get("routes", [])
    named = [name for route in routes for name in (route["to"], *route.get("fallback", ()))]
    providers = dict(job.get("providers", {}))
    for name in named or ["fast"] * (not providers):
        providers.setdefault(name, {"use": "openai-chat", "model": "m"})
    job["providers"] = providers
    if not routes and len(providers) > 1:
        job["routes"] = [{"to": next(iter(providers))}]
    elif routes and "when" in routes[-1]:
        job["routes"] = [*routes, {"to": named[0]}]
    return job


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_job_files_shown_are_right(page: Path, blocks_of: Blocks, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    if any(block.title == "pyproject.toml" for block in blocks):
        return  # its jobs name what the page itself installs, and are run where the page is
    for block in blocks:
        if block.language != "yaml":
            continue
        data = YAML(typ="safe", pure=True).load(block.text)
        assert isinstance(data, dict), f"{_named(page)}:{block.line}"
        assert set(data) <= KEYS, f"{_named(page)}:{block.line} is no part of a job file"
        job = tmp_path / f"line-{block.line}.yaml"
        job.write_text(block.text if "version" in data else json.dumps(_whole(data)), "utf-8")
        load_job(job, Registry())


@pytest.mark.parametrize("example", EXAMPLES, ids=_named)
def test_examples_are_right_and_their_inputs_are_there(example: Path) -> None:
    job = load_job(example, Registry())
    paths = job.source.model_dump()["path"]
    assert (example.parent / paths).is_file()
