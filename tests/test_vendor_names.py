"""No vendor in the core: what one provider needs lives in that provider's distribution."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "src" / "promptmill"

VENDORS = re.compile(
    r"anthropic|azure|bedrock|claude|cohere|deepseek|fireworks|gemini|gpt|groq|llama|litellm|mistral|openai|openrouter"
    r"|smollm|vertex|vllm",
    re.IGNORECASE,
)

EXEMPT = {"cli/templates": "the job file that `promptmill init` writes has to name a provider that exists"}


def vendor_lines(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or path.suffix == ".pyc" or any(name.startswith(f"{folder}/") for folder in EXEMPT):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if VENDORS.search(line) or VENDORS.search(name):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


def test_the_core_names_no_vendor() -> None:
    assert vendor_lines(CORE) == []


@pytest.mark.parametrize("text", ["class OpenAIChat:", 'if "gpt-" in model:', "# as vLLM does"])
def test_a_vendor_is_seen(text: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(text, encoding="utf-8")
    assert vendor_lines(tmp_path) == [f"module.py:1: {text}"]


def test_the_exemptions_are_needed() -> None:
    for folder in EXEMPT:
        assert any(VENDORS.search(path.read_text(encoding="utf-8")) for path in (CORE / folder).iterdir())
