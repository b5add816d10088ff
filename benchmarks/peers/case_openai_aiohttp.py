"""openai-python over aiohttp: ``pip install openai[aiohttp]`` and ``DefaultAioHttpClient``, which its README recommends
"for improved concurrency performance"."""

from __future__ import annotations

import case_openai
import measuring
from openai import DefaultAioHttpClient


async def main(task: measuring.Task) -> None:
    await case_openai.main(task, http_client=DefaultAioHttpClient())


if __name__ == "__main__":
    measuring.run(main)
