"""promptmill as a library: ``Pipeline.stream`` over an ``openai-chat`` provider, results looked at and dropped."""

from __future__ import annotations

import measuring

from promptmill import Message, Pipeline, Request
from promptmill.http import HttpSettings
from promptmill_openai import OpenAIChatOptions

BACKEND = "aiohttp"


async def main(task: measuring.Task, backend: str = BACKEND) -> None:
    params = {"temperature": 0, "max_tokens": measuring.MAX_TOKENS}
    requests = (
        Request(id=str(number), messages=(Message("user", text),), params=params)
        for number, text in enumerate(task.prompts())
    )
    options = OpenAIChatOptions(
        base_url=task.url,
        model=measuring.MODEL,
        max_concurrency=task.concurrency,
        http=HttpSettings.model_validate({"backend": backend}),
    )
    async with Pipeline({"bench": options}) as pipeline:
        await pipeline.gather(["a first request, for what is imported late"])
        stopwatch = measuring.Stopwatch()
        results = pipeline.stream(requests)
        latencies = [one.latency_s async for one in results if one.ok and one.latency_s is not None]
        measuring.report(stopwatch, latencies, task.requests)


if __name__ == "__main__":
    measuring.run(main)
