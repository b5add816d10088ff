"""Extras, plugin folders, and what a release holds. Needs every plugin installed, as `make setup` does."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from promptmill._registry import Registry

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

IN_CHECKOUT = pytest.mark.skipif(not FOLDERS, reason="a source distribution has no plugin folders")


def read_toml(folder: Path) -> dict[str, Any]:
    with (folder / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


CORE = read_toml(ROOT)
EXTRAS: dict[str, list[str]] = CORE["tool"]["hatch"]["metadata"]["hooks"]["custom"]["extras"]


def extras_of(root: Path) -> dict[str, list[str]]:
    return dict(ProjectMetadata(str(root), PluginManager()).core.optional_dependencies)


def build(kind: str, folder: Path, target: Path, *, release: bool) -> Path:
    """Build a ``wheel`` or an ``sdist`` with the installed hatchling; asks no package index."""
    environment = {name: value for name, value in os.environ.items() if name != "PROMPTMILL_RELEASE"}
    if release:
        environment["PROMPTMILL_RELEASE"] = "1"
    program = f"import sys; from hatchling.build import build_{kind}; print(build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(target)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


def names_in(archive: Path) -> set[str]:
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def wheel_metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"), release=True)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"), release=True)


# The extras.


@IN_CHECKOUT
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_in_a_checkout_an_extra_is_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMPTMILL_RELEASE", raising=False)
    extra = folder.name.removeprefix("promptmill-")
    assert f"{folder.name} @ {folder.as_uri()}/." in extras_of(ROOT)[extra]


def test_in_a_release_an_extra_is_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_RELEASE", "1")
    extras = extras_of(ROOT)
    assert extras["openai"] == ["promptmill-openai==0.1.0"]
    assert extras["llama"] == ["promptmill-llama==0.1.0", "promptmill-local==0.1.0"]
    assert extras["zstd"] == ["zstandard>=0.23; python_version < '3.14'"]
    assert "file:" not in repr(extras)


def test_all_means_every_extra_for_users() -> None:
    (everything,) = EXTRAS["all"]
    named = everything.removeprefix("promptmill[").removesuffix("]").split(",")
    assert sorted(named) == sorted(EXTRAS.keys() - {"all", "dev"})


# The plugin folders.


@IN_CHECKOUT
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_plugin_folder_is_a_whole_distribution(folder: Path) -> None:
    project = read_toml(folder)["project"]
    package = folder / "src" / folder.name.replace("-", "_")
    assert project["name"] == folder.name
    assert project["version"] == CORE["project"]["version"]
    assert project["requires-python"] == CORE["project"]["requires-python"]
    assert project["license"] == CORE["project"]["license"]
    assert project["license-files"] == CORE["project"]["license-files"]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "promptmill>=0.1,<0.2" in project["dependencies"]
    assert (folder / project["readme"]).is_file()
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()
    assert any((folder / "tests").glob("**/test_*.py"))


@IN_CHECKOUT
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_root_knows_each_plugin_folder(folder: Path) -> None:
    assert folder.name in EXTRAS[folder.name.removeprefix("promptmill-")]
    assert CORE["tool"]["uv"]["sources"][folder.name] == {"workspace": True}


@IN_CHECKOUT
def test_the_root_names_no_plugin_that_is_not_there() -> None:
    named = {entry for entries in EXTRAS.values() for entry in entries if entry.startswith("promptmill-")}
    assert named == {folder.name for folder in FOLDERS}
    assert CORE["tool"]["uv"]["sources"].keys() == {"promptmill", *named}


@IN_CHECKOUT
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_extra_brings_every_plugin_a_plugin_needs(folder: Path) -> None:
    """Nothing is published yet when a checkout is installed, so pip can find a plugin only where the extra says."""
    needed = {entry.split(">")[0].split("[")[0] for entry in read_toml(folder)["project"]["dependencies"]}
    ours = {name for name in needed if name.startswith("promptmill-")}
    assert ours <= set(EXTRAS[folder.name.removeprefix("promptmill-")])


def entry_points_of(folder: Path) -> dict[str, str]:
    return dict(read_toml(folder)["project"].get("entry-points", {}).get("promptmill", {}))


@pytest.mark.parametrize("folder", [ROOT, *FOLDERS], ids=lambda path: path.name if path != ROOT else "core")
def test_each_entry_point_offers_what_its_name_says(folder: Path) -> None:
    offered = entry_points_of(folder)
    assert offered
    registry = Registry([EntryPoint(name, module, "promptmill") for name, module in offered.items()])
    for point in offered:
        kind, _, name = point.partition(".")
        assert callable(registry.get(kind, name)), point


# What is built.


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = names_in(wheel)
    assert {"promptmill/__init__.py", "promptmill/py.typed", "promptmill/cli/templates/job.yaml"} <= names
    assert {name.split("/")[0] for name in names} == {"promptmill", "promptmill-0.1.0.dist-info"}
    assert "promptmill-0.1.0.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if name.endswith(".pyc")]


def test_the_wheel_says_what_it_offers(wheel: Path) -> None:
    metadata = wheel_metadata(wheel)
    requirements = metadata.get_all("Requires-Dist", [])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)
    assert "promptmill-openai==0.1.0; extra == 'openai'" in requirements
    assert not [line for line in requirements if "file:" in line or "@" in line]


def test_the_source_distribution_builds_without_the_plugin_folders(sdist: Path, tmp_path: Path) -> None:
    names = names_in(sdist)
    assert {"pyproject.toml", "README.md", "LICENSE", "plugins/extras.py", "tests/conftest.py"} <= names
    assert "src/promptmill/models.py" in names
    assert {name for name in names if name.startswith("plugins/")} == {"plugins/extras.py"}
    with tarfile.open(sdist) as tar:
        tar.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert "file:" not in (unpacked / "PKG-INFO").read_text(encoding="utf-8")
    rebuilt = build("wheel", unpacked, tmp_path, release=False)
    assert "promptmill-openai==0.1.0; extra == 'openai'" in wheel_metadata(rebuilt).get_all("Requires-Dist", [])


@IN_CHECKOUT
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_plugin_builds_as_a_typed_package(folder: Path, tmp_path: Path) -> None:
    built = build("wheel", folder, tmp_path, release=True)
    package = folder.name.replace("-", "_")
    names = names_in(built)
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert f"{package}-0.1.0.dist-info/licenses/LICENSE" in names
    assert {name.split("/")[0] for name in names} == {package, f"{package}-0.1.0.dist-info"}
    assert not [line for line in wheel_metadata(built).get_all("Requires-Dist", []) if "file:" in line]
