"""Provider ``python``: functions, coroutine functions, and the permission to run them."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import ValidationError

from promptmill.errors import PluginError
from promptmill.models import Message, Request, Response, Usage
from promptmill.options import BuildContext
from promptmill_local import FunctionProvider
from promptmill_local.python import PythonOptions, load_function, register_provider

REQUEST = Request(id="1", messages=(Message("user", "hello"),))


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """A module ``mill_answers`` next to a job file; afterwards the interpreter has forgotten it."""
    before, known = list(sys.path), set(sys.modules)
    (tmp_path / "mill_answers.py").write_text(
        "WORD = 'not a function'\n"
        "def shout(request):\n    return request.messages[0].text.upper()\n"
        "class Group:\n    @staticmethod\n    def inner(request):\n        return 'inner'\n"
    )
    (tmp_path / "mill_broken.py").write_text("raise ZeroDivisionError('at import')\n")
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if name.startswith("mill_"):
            del sys.modules[name]


def context(base_dir: Path, *, allow_code: bool) -> BuildContext:
    return BuildContext(name="mine", base_dir=base_dir, allow_code=allow_code)


async def test_a_plain_function_runs_in_a_thread() -> None:
    threads: list[int] = []

    def answer(request: Request) -> str:
        threads.append(threading.get_ident())
        return request.messages[0].text[::-1]

    async with FunctionProvider(answer, model="reverse") as provider:
        assert provider.concurrency == 1
        assert await provider.complete(REQUEST, timeout=1) == Response(text="olleh", model="reverse")
    assert threads
    assert threads[0] != threading.get_ident()


class AsyncCallable:
    async def __call__(self, request: Request) -> Response:
        return Response(text=str(threading.get_ident()), usage=Usage(output_tokens=1))


async def _coroutine(request: Request, extra: str = "") -> str:
    return f"{threading.get_ident()}{extra}"


@pytest.mark.parametrize("function", [_coroutine, functools.partial(_coroutine, extra=""), AsyncCallable()])
async def test_a_coroutine_function_is_awaited_on_the_loop(function: object) -> None:
    async with FunctionProvider(function, concurrency=9) as provider:  # type: ignore[arg-type]
        assert provider.concurrency == 9
        assert (await provider.complete(REQUEST, timeout=1)).text == str(threading.get_ident())


async def test_options_build_a_provider_from_a_module_next_to_the_job(module: Path) -> None:
    options = PythonOptions(target="mill_answers:shout", slots=3, model="m")
    async with options.build(context(module, allow_code=True)) as provider:
        assert provider.concurrency == 3
        assert await provider.complete(REQUEST, timeout=1) == Response(text="HELLO", model="m")


def test_code_is_refused_unless_allowed(module: Path) -> None:
    with pytest.raises(PluginError, match="'mill_broken:f'") as caught:
        PythonOptions(target="mill_broken:f").build(context(module, allow_code=False))
    assert caught.value.code == "E0410"
    assert "--allow-code" in str(caught.value.hint)
    assert "mill_broken" not in sys.modules


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mill_nowhere:f", "module 'mill_nowhere' of target 'mill_nowhere:f' cannot be imported: ModuleNotFoundError"),
        ("mill_broken:f", "ZeroDivisionError: at import"),
        ("mill_answers:absent", "module 'mill_answers' has no function 'absent'"),
        ("mill_answers:WORD", "module 'mill_answers' has no function 'WORD'"),
        ("mill_answers:Absent.inner", "has no function 'Absent.inner'"),
    ],
)
def test_a_wrong_target_names_module_and_function(module: Path, target: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        PythonOptions(target=target).build(context(module, allow_code=True))
    assert message in caught.value.message
    assert caught.value.code == "E0411"


def test_a_function_inside_a_class_is_found(module: Path) -> None:
    assert load_function("mill_answers:Group.inner", module)(REQUEST) == "inner"


def test_a_module_next_to_the_job_hides_no_installed_one(module: Path) -> None:
    (module / "colorsys.py").write_text("raise AssertionError('the wrong module')\n")
    sys.modules.pop("colorsys", None)
    assert callable(load_function("colorsys:rgb_to_hsv", module))


@pytest.mark.parametrize("target", ["", "module", "module:", ":function", "a b:c", "m:f()", "../m:f", "m:f:g"])
def test_a_target_of_another_form_is_refused(target: str) -> None:
    with pytest.raises(ValidationError):
        PythonOptions(target=target)


def test_the_identity_is_what_changes_answers() -> None:
    what = {"target": "mill_answers:shout", "model": "loud"}
    options = PythonOptions.model_validate({**what, "slots": 3, "max_concurrency": 2, "limits": {"rpm": 5}})
    assert options.identity() == what


def test_the_entry_point_registers_the_options() -> None:
    found = {point.name: point.load() for point in entry_points(group="promptmill") if point.name == "provider.python"}
    names: dict[str, object] = {}
    register_provider(names.__setitem__)
    assert found["provider.python"].register_provider is register_provider
    assert names == {"python": PythonOptions}


def test_planning_runs_no_code_and_needs_no_permission(module: Path) -> None:
    planning = BuildContext(name="mine", base_dir=module, planning=True)
    provider = PythonOptions(target="mill_broken:shout", slots=3, model="own").build(planning)
    assert (provider.model, provider.concurrency, provider.free) == ("own", 3, True)
    assert "mill_broken" not in sys.modules
    with pytest.raises(RuntimeError, match="built for planning"):
        provider.generate(REQUEST)
