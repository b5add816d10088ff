"""OpenAI and every server that speaks its API, as promptmill providers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptmill_openai.batch import OpenAIBatch, OpenAIBatchOptions
    from promptmill_openai.chat import OpenAIChat, OpenAIChatOptions
    from promptmill_openai.embeddings import OpenAIEmbeddings, OpenAIEmbeddingsOptions
    from promptmill_openai.responses import OpenAIResponses, OpenAIResponsesOptions

__all__ = [
    "OpenAIBatch",
    "OpenAIBatchOptions",
    "OpenAIChat",
    "OpenAIChatOptions",
    "OpenAIEmbeddings",
    "OpenAIEmbeddingsOptions",
    "OpenAIResponses",
    "OpenAIResponsesOptions",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: a job names one of these, and does not wait for the others."""
    from importlib import import_module

    homes = {
        "OpenAIBatch": "batch",
        "OpenAIChat": "chat",
        "OpenAIEmbeddings": "embeddings",
        "OpenAIResponses": "responses",
    }
    home = homes.get(name.removesuffix("Options"))
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
