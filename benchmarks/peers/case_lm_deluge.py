"""lm-deluge's ``process_prompts_async``: a library made for many prompts at once.

As its README says for throughput: one client, the concurrency asked for, and limits that are never reached ("set
max_tokens_per_minute and max_requests_per_minute and let it fly"). No progress shown, no cache: nothing is kept on
disk. An endpoint of one's own is a registered model. It reports no latency of a call, so there is none here.
"""

from __future__ import annotations

import os

import measuring
from lm_deluge import LLMClient, SamplingParams
from lm_deluge.models import register_model

UNLIMITED = 1_000_000_000


async def main(task: measuring.Task) -> None:
    os.environ["BENCH_API_KEY"] = "none"
    register_model(
        id=measuring.MODEL, name=measuring.MODEL, api_base=task.url, api_key_env_var="BENCH_API_KEY", api_spec="openai"
    )
    client = LLMClient(
        measuring.MODEL,
        max_requests_per_minute=UNLIMITED,
        max_tokens_per_minute=UNLIMITED,
        max_concurrent_requests=task.concurrency,
        sampling_params=[SamplingParams(temperature=0, max_new_tokens=measuring.MAX_TOKENS)],
    )
    await client.process_prompts_async(["a first request, for what is imported late"], show_progress=False)
    prompts = task.prompts()
    stopwatch = measuring.Stopwatch()
    answers = await client.process_prompts_async(prompts, show_progress=False)
    measuring.report(stopwatch, [0.0 for one in answers if one is not None and one.completion], task.requests)


if __name__ == "__main__":
    measuring.run(main)
