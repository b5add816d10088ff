"""A GGUF model in this process, on llama.cpp, and the command that fetches one."""

from promptmill_llama.catalogue import KNOWN, KnownModel, find_model, models_dir
from promptmill_llama.fetch import fetch_model
from promptmill_llama.provider import LlamaOptions, LlamaProvider

__all__ = ["KNOWN", "KnownModel", "LlamaOptions", "LlamaProvider", "fetch_model", "find_model", "models_dir"]
