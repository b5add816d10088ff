"""A GGUF model in this process, on llama.cpp, and the command that fetches one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptmill_llama.catalogue import KNOWN, KnownModel, find_model, models_dir
    from promptmill_llama.fetch import fetch_model
    from promptmill_llama.provider import LlamaOptions, LlamaProvider

__all__ = ["KNOWN", "KnownModel", "LlamaOptions", "LlamaProvider", "fetch_model", "find_model", "models_dir"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: listing the command must not load the model's library."""
    from importlib import import_module

    homes = {
        "KNOWN": "catalogue",
        "KnownModel": "catalogue",
        "LlamaOptions": "provider",
        "LlamaProvider": "provider",
        "fetch_model": "fetch",
        "find_model": "catalogue",
        "models_dir": "catalogue",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{homes[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
