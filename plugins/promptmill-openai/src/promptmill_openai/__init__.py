"""OpenAI and every server that speaks its API, as promptmill providers."""

from promptmill_openai.chat import OpenAIChat, OpenAIChatOptions

__all__ = ["OpenAIChat", "OpenAIChatOptions"]
