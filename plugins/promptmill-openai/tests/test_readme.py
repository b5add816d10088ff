"""The examples of the README are jobs' providers that can be built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from promptmill.options import BuildContext
from promptmill_openai import (
    OpenAIBatchOptions,
    OpenAIChatOptions,
    OpenAIEmbeddingsOptions,
    OpenAIResponsesOptions,
)
from promptmill_openai.settings import OpenAIOptions

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
OPTIONS: dict[str, type[OpenAIOptions]] = {
    "openai-batch": OpenAIBatchOptions,
    "openai-chat": OpenAIChatOptions,
    "openai-embeddings": OpenAIEmbeddingsOptions,
    "openai-responses": OpenAIResponsesOptions,
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_can_be_built(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-example")
    providers: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load(example)["providers"]
    for name, settings in providers.items():
        assert OPTIONS[settings.pop("use")].model_validate(settings).build(BuildContext(name=name)).model


def test_every_option_is_in_the_readme() -> None:
    own = {name for options in OPTIONS.values() for name in options.model_fields}
    assert len(EXAMPLES) >= 8
    assert not {name for name in own if f"`{name}`" not in README}


def test_every_provider_is_in_the_readme() -> None:
    assert not {name for name in OPTIONS if f"| `{name}` |" not in README}
