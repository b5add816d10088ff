"""The registry: lists without importing, loads what is named, and lets nobody take another one's name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from promptmill._registry import KINDS, Installed, Registry
from promptmill.errors import PluginError
from promptmill.interfaces import Provider, Sink
from promptmill.options import BuildContext, ProviderOptions, SinkOptions

HEAD = """
from promptmill.hookspecs import hookimpl
from promptmill.options import ProviderOptions, SinkOptions

class ProviderThing(ProviderOptions):
    def build(self, context): ...

class SinkThing(SinkOptions):
    def build(self, context): ...
"""

SINK = (
    HEAD
    + """
@hookimpl
def register_sink(register):
    register({name!r}, SinkThing)
"""
)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with modules and entry points into a folder of the test."""
    before = set(sys.modules)

    def install(name: str, points: dict[str, str], modules: dict[str, str], version: str = "1.2") -> None:
        folder = tmp_path / name
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "".join(f"{point} = {value}\n" for point, value in points.items())
        (info / "entry_points.txt").write_text(f"[promptmill]\n{lines}")
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()

    yield install
    for module in set(sys.modules) - before:
        del sys.modules[module]


def refusal(registry: Registry, kind: str, name: str) -> PluginError:
    with pytest.raises(PluginError) as caught:
        registry.get(kind, name)
    return caught.value


class ProviderThing(ProviderOptions):
    def build(self, context: BuildContext) -> Provider:
        return Provider()


class SinkThing(SinkOptions):
    def build(self, context: BuildContext) -> Sink:
        raise NotImplementedError


def test_listing_imports_nothing(install: Install) -> None:
    explosive = "raise RuntimeError('imported')"
    install("acme-mill", {"sink.boom": "acme_boom", "provider.boom": "acme_boom:thing"}, {"acme_boom": explosive})
    registry = Registry()
    assert Installed("sink", "boom", "acme-mill", "1.2", "acme_boom") in registry.installed()
    assert Installed("sink", "boom", "acme-mill", "1.2", "acme_boom") in registry.installed("sink")
    assert Installed("provider", "boom", "acme-mill", "1.2", "acme_boom:thing") in registry.installed("provider")
    assert "boom" in registry.names("sink")
    assert "boom" not in registry.names("source")
    assert "acme_boom" not in sys.modules


def test_our_own_components_are_listed_and_load() -> None:
    registry = Registry()
    assert {"jsonl", "memory"} <= set(registry.names("sink"))
    assert registry.get("sink", "memory").kind == "sink"
    assert registry.get("sink", "memory") is registry.get("sink", "memory")


def test_only_the_named_plugin_is_imported(install: Install) -> None:
    install(
        "acme-mill",
        {"sink.acme-good": "acme_good", "sink.acme-boom": "acme_boom2"},
        {"acme_good": SINK.format(name="acme-good"), "acme_boom2": "raise RuntimeError"},
    )
    assert Registry().get("sink", "acme-good").__name__ == "SinkThing"
    assert "acme_boom2" not in sys.modules


def test_a_doubled_name_names_both_distributions(install: Install) -> None:
    install("acme-one", {"sink.twice": "acme_a"}, {"acme_a": SINK.format(name="twice")})
    install("acme-two", {"sink.twice": "acme_b"}, {"acme_b": SINK.format(name="twice")})
    error = refusal(Registry(), "sink", "twice")
    assert error.code == "E0402"
    assert error.message == "sink 'twice' is offered by acme-one and acme-two"
    assert error.hint == "uninstall one of them"
    assert not {"acme_a", "acme_b"} & set(sys.modules)


def test_a_doubled_name_stays_doubled_when_a_module_is_loaded_for_another_name(install: Install) -> None:
    points = {"sink.pair": "acme_pair", "provider.pair": "acme_pair", "provider.third": "acme_pair"}
    install("acme-one", points, {"acme_pair": TWO})
    install("acme-two", {"sink.pair": "acme_b"}, {"acme_b": SINK.format(name="pair")})
    registry = Registry()
    assert registry.get("provider", "pair").kind == "provider"
    assert refusal(registry, "sink", "pair").message == "sink 'pair' is offered by acme-one and acme-two"


def test_a_built_in_cannot_be_shadowed_by_name(install: Install) -> None:
    install("acme-evil", {"sink.jsonl": "acme_evil"}, {"acme_evil": SINK.format(name="jsonl")})
    assert refusal(Registry(), "sink", "jsonl").message == "sink 'jsonl' is offered by acme-evil and promptmill"


@pytest.mark.parametrize("ask_first", ["jsonl", "innocent"])
def test_a_plugin_cannot_take_another_ones_name_by_being_loaded_first(install: Install, ask_first: str) -> None:
    both = SINK.format(name="innocent") + "    register('jsonl', SinkThing)\n"
    install("acme-evil", {"sink.innocent": "acme_innocent"}, {"acme_innocent": both})
    registry = Registry()
    if ask_first == "jsonl":
        registry.get("sink", "jsonl")
    error = refusal(registry, "sink", "innocent")
    assert error.code == "E0405"
    assert error.message == "'acme_innocent' of acme-evil registers sink 'jsonl' without an entry point 'sink.jsonl'"
    assert registry.get("sink", "jsonl").__module__ == "promptmill.sinks.jsonl"
    assert refusal(registry, "sink", "innocent").message == error.message, "and nothing of it was kept"


def test_an_unknown_name_has_a_suggestion_or_the_list() -> None:
    registry = Registry([])
    assert refusal(registry, "sink", "x").message == "there is no sink 'x'; installed: none"
    registry.add("sink", "parquet", SinkThing)
    registry.add("sink", "csv", SinkThing)
    assert refusal(registry, "sink", "parqet").message == "there is no sink 'parqet'; did you mean 'parquet'?"
    error = refusal(registry, "sink", "x")
    assert error.message == "there is no sink 'x'; installed: csv, parquet"
    assert error.code == "E0403"
    assert refusal(registry, "provider", "csv").message == "there is no provider 'csv'; installed: none"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        (HEAD + "@hookimpl\ndef register_sink(register):\n    raise KeyError('why')\n", "KeyError: 'why'"),
        (HEAD + "@hookimpl\ndef register_sink(register):\n    register('broken')\n", "TypeError"),
    ],
)
def test_a_module_that_breaks_is_named_with_its_distribution(install: Install, body: str, reason: str) -> None:
    install("acme-mill", {"sink.broken": "acme_broken"}, {"acme_broken": body})
    error = refusal(Registry(), "sink", "broken")
    assert error.code == "E0404"
    assert error.message.startswith(f"sink 'broken' of acme-mill 1.2 cannot be loaded: {reason}")


def test_a_module_or_attribute_that_is_missing(install: Install) -> None:
    install("acme-mill", {"sink.gone": "acme_gone", "sink.half": "acme_half:nothing"}, {"acme_half": HEAD})
    assert "No module named 'acme_gone'" in refusal(Registry(), "sink", "gone").message
    assert "has no attribute 'nothing'" in refusal(Registry(), "sink", "half").message


def test_a_module_that_registers_nothing_or_another_name(install: Install) -> None:
    install(
        "acme-mill",
        {"sink.silent": "acme_silent", "sink.right": "acme_wrong"},
        {"acme_silent": HEAD, "acme_wrong": SINK.format(name="wrong")},
    )
    error = refusal(Registry(), "sink", "silent")
    assert error.code == "E0405"
    assert error.message == "'acme_silent' of acme-mill does not register sink 'silent'"
    error = refusal(Registry(), "sink", "right")
    assert error.code == "E0405"
    assert error.message == "'acme_wrong' of acme-mill registers sink 'wrong' without an entry point 'sink.wrong'"


@pytest.mark.parametrize(
    ("hook", "quoted"),
    [
        ("def register_sink(register, extra):\n    pass", "extra"),
        ("def register_snik(register):\n    pass", "register_snik"),
    ],
)
def test_a_misspelt_hook_is_told_and_blames_nobody_else(install: Install, hook: str, quoted: str) -> None:
    install(
        "acme-mill",
        {"sink.typo": "acme_typo", "sink.fine": "acme_fine"},
        {"acme_typo": f"{HEAD}\n@hookimpl\n{hook}\n", "acme_fine": SINK.format(name="fine")},
    )
    registry = Registry()
    for _ in range(2):
        error = refusal(registry, "sink", "typo")
        assert error.code == "E0405"
        assert error.message.startswith("'acme_typo' of acme-mill: ")
        assert quoted in error.message
    assert registry.get("sink", "fine").__name__ == "SinkThing"


TWO = (
    HEAD
    + """
calls = []

@hookimpl
def register_sink(register):
    calls.append("sink")
    register("pair", SinkThing)

@hookimpl
def register_provider(register):
    calls.append("provider")
    register("pair", ProviderThing)
    register("third", ProviderThing)
"""
)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 0, 1), (1, 1, 1)])
def test_a_module_with_several_components_registers_once(install: Install, order: tuple[int, ...]) -> None:
    points = {"sink.pair": "acme_pair", "provider.pair": "acme_pair", "provider.third": "acme_pair"}
    install("acme-mill", points, {"acme_pair": TWO})
    registry = Registry()
    wanted = [("sink", "pair"), ("provider", "pair"), ("provider", "third")]
    for at in order:
        kind, name = wanted[at]
        assert registry.get(kind, name).kind == kind
    assert sys.modules["acme_pair"].calls == ["provider", "sink"]
    assert registry.names("sink").count("pair") == 1


def test_two_registries_do_not_share(install: Install) -> None:
    points = {"sink.pair": "acme_pair", "provider.pair": "acme_pair", "provider.third": "acme_pair"}
    install("acme-mill", points, {"acme_pair": TWO})
    assert Registry().get("sink", "pair") is Registry().get("sink", "pair")
    assert ("sink", "pair") not in Registry()._offers


def test_the_same_distribution_found_twice_is_one(install: Install) -> None:
    points = [EntryPoint("sink.pair", "acme_pair", "promptmill"), EntryPoint("sink.pair", "acme_pair", "promptmill")]
    points += [EntryPoint(f"provider.{name}", "acme_pair", "promptmill") for name in ("pair", "third")]
    install("acme-mill", {}, {"acme_pair": TWO})
    registry = Registry(points)
    assert registry.get("sink", "pair").kind == "sink"
    assert [one.name for one in registry.installed("sink")] == ["pair"]


def test_points_given_by_hand_replace_the_installed_ones() -> None:
    registry = Registry([EntryPoint("sink.memory", "promptmill.sinks.memory", "promptmill")])
    assert registry.installed() == [Installed("sink", "memory", "(none)", "", "promptmill.sinks.memory")]
    assert registry.get("sink", "memory").kind == "sink"
    assert Registry([EntryPoint("nodot", "x", "promptmill")]).installed() == []


class TestAdd:
    def test_names_are_free_of_anything_strange(self) -> None:
        for name in ("", "Upper", "1st", "a b", "a/b", "../x", "a.b", "\x1b[31m", "a" * 65, "é", "a\n"):
            with pytest.raises(PluginError) as caught:
                Registry([]).add("sink", name, SinkThing)
            assert caught.value.code == "E0401"
        for name in ("a", "a" * 64, "openai-chat", "a_1"):
            Registry([]).add("sink", name, SinkThing)

    def test_a_name_is_given_once_in_a_kind(self) -> None:
        registry = Registry([])
        registry.add("sink", "x", SinkThing)
        registry.add("provider", "x", ProviderThing)
        with pytest.raises(PluginError, match="sink 'x' is registered twice") as caught:
            registry.add("sink", "x", SinkThing)
        assert caught.value.code == "E0402"

    def test_kinds_are_known(self) -> None:
        with pytest.raises(PluginError, match="unknown kind of component 'snik'; the kinds are provider, ") as caught:
            Registry([]).add("snik", "x", SinkThing)
        assert caught.value.code == "E0400"

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "command"])
    @pytest.mark.parametrize("offer", [None, "SinkThing", BaseModel, object(), len])
    def test_a_component_is_an_options_class_of_its_kind(self, kind: str, offer: Any) -> None:
        with pytest.raises(PluginError, match="not with an options class of the kind") as caught:
            Registry([]).add(kind, "x", offer)
        assert caught.value.code == "E0405"

    def test_a_sink_is_no_provider(self) -> None:
        with pytest.raises(PluginError, match="not with an options class of the kind 'provider'"):
            Registry([]).add("provider", "x", SinkThing)

    def test_a_command_can_be_called(self) -> None:
        registry = Registry([])
        registry.add("command", "go", len)
        assert registry.get("command", "go") is len
        with pytest.raises(PluginError, match="not with a function"):
            registry.add("command", "stop", "len")
