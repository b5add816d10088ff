"""Where results go: sinks by the ending of `output`, and outputs that are inputs, refused before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptmill._config import load_job
from promptmill._config.job import Job
from promptmill._registry import Registry
from promptmill.errors import JobError
from promptmill.options import BuildContext, ProviderOptions
from promptmill.testing import EchoProvider


class EchoOptions(ProviderOptions):
    def build(self, context: BuildContext) -> EchoProvider:
        return EchoProvider()


def load(folder: Path, source: Any = "in.jsonl", **output: Any) -> Job:
    registry = Registry()
    registry.add("provider", "echo", EchoOptions)
    job = {"version": 1, "input": {"path": source}, "providers": {"p": {"use": "echo"}}, **output}
    (folder / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
    return load_job(folder / "job.yaml", registry)


def refused(folder: Path, source: Any = "in.jsonl", **output: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        load(folder, source, **output)
    assert caught.value.problems[0].location is not None
    assert caught.value.problems[0].location.line == 1
    return caught.value


@pytest.mark.parametrize(
    ("output", "sink"),
    [
        ("a.jsonl", "JsonlSinkOptions"),
        ("a.b/c", "JsonlSinkOptions"),
        ("a.NDJSON", "JsonlSinkOptions"),
        ("a.csv", "CsvSinkOptions"),
        ("x/a.Parquet", "ParquetSinkOptions"),
        ("a.db", "SqliteSinkOptions"),
        ("a.sqlite", "SqliteSinkOptions"),
        ("a.sqlite3", "SqliteSinkOptions"),
        ("a.duckdb", "DuckdbSinkOptions"),
    ],
)
def test_the_ending_chooses_the_sink(tmp_path: Path, output: str, sink: str) -> None:
    job = load(tmp_path, output=output)
    assert type(job.sinks[0]).__name__ == sink
    assert job.sink_names[0].endswith(f"(path={output})")


@pytest.mark.parametrize("output", ["a.txt", "a.json", "a.xlsx", "a.jsonl.gz", "a.tsv", "a.yaml"])
def test_an_unknown_ending_is_refused(tmp_path: Path, output: str) -> None:
    error = refused(tmp_path, output=output)
    assert error.code == "E0206"
    assert repr(output) in error.message
    assert ".parquet" in (error.problems[0].hint or "")
    load(tmp_path, sinks=[{"use": "jsonl", "path": output}])


@pytest.mark.parametrize("path", [":memory:", ":memory:x", "file::memory:?cache=shared", "file:x.db"])
@pytest.mark.parametrize("use", ["sqlite", "duckdb"])
def test_a_database_in_memory_is_refused(tmp_path: Path, use: str, path: str) -> None:
    error = refused(tmp_path, sinks=[{"use": use, "path": path}])
    assert error.code == "E0205"
    assert "gone when the run is over" in error.message


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in.jsonl", "in.jsonl"),
        ("in.jsonl", "./x/../in.jsonl"),
        ("link.jsonl", "in.jsonl"),
        ("in.jsonl", "link.jsonl"),
        (["other.jsonl", "in.jsonl"], "in.jsonl"),
        ("*.jsonl", "answers.jsonl"),
        ("*", "answers.jsonl"),
        ("**/*.jsonl", "answers.jsonl"),
        ("**/*.jsonl", "a/b/answers.jsonl"),
        ("data/**", "data/answers.jsonl"),
        ("data/*.csv", "data/out.csv"),
        ("./data/[a-z]?.csv", "data/ab.csv"),
    ],
)
def test_an_output_that_is_an_input_is_refused(tmp_path: Path, source: Any, output: str) -> None:
    (tmp_path / "in.jsonl").write_text("{}\n")
    try:
        (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    except OSError:
        (tmp_path / "link.jsonl").hardlink_to(tmp_path / "in.jsonl")
    sinks = [{"use": "jsonl", "path": "fine.txt"}, {"use": "jsonl", "path": output}]
    assert refused(tmp_path, source, sinks=sinks).code == "E0211"
    assert refused(tmp_path, source, output=output).code == "E0211"
    absolute = str(tmp_path / source) if isinstance(source, str) else source
    assert refused(tmp_path, absolute, output=output).code == "E0211"


def test_an_input_in_the_directory_of_an_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    sinks = [{"use": "parquet", "path": "out"}]
    assert refused(tmp_path, "out/in.jsonl", sinks=sinks).code == "E0211"
    assert refused(tmp_path, "out/*.jsonl", sinks=sinks).code == "E0211"


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in.jsonl", "out.jsonl"),
        ("in.jsonl", "x/in.jsonl"),
        ("*.jsonl", "out/answers.jsonl"),
        ("data/*.jsonl", "answers.jsonl"),
        ("data/**/*.jsonl", "answers.jsonl"),
        ("*.jsonl", ".answers.jsonl"),
        ("**/*.jsonl", ".out/answers.jsonl"),
        ("*.csv", "answers.jsonl"),
        ("-", "answers.jsonl"),
    ],
)
def test_other_outputs_are_taken(tmp_path: Path, source: Any, output: str) -> None:
    assert load(tmp_path, source, output=output).sinks


@pytest.mark.parametrize(
    "sinks",
    [
        [{"use": "jsonl", "path": "a"}, {"use": "csv", "path": "./a"}],
        [{"use": "sqlite", "path": "a.db"}, {"use": "sqlite", "path": "x/../a.db", "table": "results"}],
        [{"use": "jsonl", "path": "a"}, {"use": "jsonl", "path": "a"}],
    ],
)
def test_two_sinks_into_one_file_are_refused(tmp_path: Path, sinks: list[dict[str, str]]) -> None:
    assert refused(tmp_path, sinks=sinks).code == "E0208"


def test_two_tables_of_one_database_are_two_sinks(tmp_path: Path) -> None:
    assert load(tmp_path, sinks=[{"use": "sqlite", "path": "a.db"}, {"use": "sqlite", "path": "a.db", "table": "b"}])
