"""What the README shows can be done."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer
from typer.main import get_command

from promptmill_simulator import (
    BatchLooks,
    BatchScript,
    BatchTimes,
    LineTroubles,
    SimulatorOptions,
    parse_batch,
    parse_fault,
)
from promptmill_simulator.command import simulate

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_commands_have_options_that_exist_and_texts_that_can_be_read() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(simulate)
    command = get_command(app)
    shown = [line for line in README.split("\n") if line.startswith("promptmill simulate")]
    assert len(shown) >= 4
    for line in shown:
        context = command.make_context("simulate", shlex.split(line)[2:])
        for rule in context.params["fault"] or ():
            assert str(parse_fault(rule))
        for script in context.params["batch"] or ():
            assert parse_batch(script) != parse_batch("nulls=false")


def test_the_table_of_scripts_is_complete() -> None:
    models = (BatchScript, BatchTimes, LineTroubles, BatchLooks)
    keys = {name.replace("_", "-") for model in models for name in model.model_fields}
    keys = keys - {"times", "lines", "looks", "fail-with"} | {"fail", "line", "message"}
    assert keys <= set(re.findall(r"`([a-z-]+)=", README))


def test_the_table_of_options_is_complete() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(simulate)
    documented = set(re.findall(r"--[a-z-]+", README))
    options = {name for parameter in get_command(app).params for name in parameter.opts if name != "--help"}
    assert options <= documented


def test_the_example_in_python_has_real_options() -> None:
    [arguments] = re.findall(r"SimulatorOptions\((.+)\)", README)
    assert isinstance(eval(f"SimulatorOptions({arguments})", {"SimulatorOptions": SimulatorOptions}), SimulatorOptions)
