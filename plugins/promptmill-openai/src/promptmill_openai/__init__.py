"""OpenAI and every server that speaks its API, as promptmill providers."""

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
