"""bespokelabs-curator's ``LLM``: a library made for asking a model about every row of a data set.

It keeps requests and answers in files and builds a data set of them, as promptmill's ``run`` keeps a journal, so that
is in its figures. As its documentation says for throughput: limits and concurrency set by hand, since it else takes
those of the server's headers. Telemetry, the viewer and the live display are off. It runs an event loop of its own and
tells no latency of a call; what counts is the whole process, less one with a single row, as for ``promptmill run``.
"""

from __future__ import annotations

import logging
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import measuring

os.environ |= {"TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1", "OPENAI_API_KEY": "none"}
os.environ |= {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # both are read by imports below
if litellm := find_spec("litellm"):
    # It counts tokens with a vocabulary that is otherwise fetched from the network; litellm brings the same file.
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(str(litellm.origin)).parent / "litellm_core_utils" / "tokenizers")

from bespokelabs import curator
from bespokelabs.curator.log import logger

UNLIMITED = 1_000_000_000


def main(task: measuring.Task) -> None:
    logger.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        stopwatch = measuring.Stopwatch()
        llm = curator.LLM(
            model_name=measuring.MODEL,
            backend="openai",
            generation_params={"temperature": 0, "max_tokens": measuring.MAX_TOKENS},
            backend_params={
                "base_url": task.url,
                "max_requests_per_minute": UNLIMITED,
                "max_tokens_per_minute": UNLIMITED,
                "max_concurrent_requests": task.concurrency,
            },
        )
        answers = llm(task.prompts(), working_dir=folder)
        rows = [row for row in answers.dataset if row["response"]]
        measuring.report(stopwatch, [0.0] * len(rows), task.requests)


if __name__ == "__main__":
    main(measuring.task())
