"""The contract test kit: a plugin author subclasses one class per component and gets its behaviour checked.

::

    from promptmill.testing import ProviderContract

    class TestMine(ProviderContract):
        options_class = MyOptions

        def settings(self):
            return {"model": "tiny", "base_url": self.url}

The classes run under pytest with anyio's plugin. Imported by tests only.
"""

from __future__ import annotations

import pytest

_ASSERTING = (
    "anyprovider",
    "batch_providers",
    "conditions",
    "contract",
    "leaks",
    "policies",
    "providers",
    "sinks",
    "sources",
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _ASSERTING))

from promptmill.testing.batch_providers import BatchProviderContract  # noqa: E402 - assertions are rewritten at import
from promptmill.testing.conditions import ConditionContract  # noqa: E402
from promptmill.testing.fakes import EchoProvider, ScriptedProvider  # noqa: E402
from promptmill.testing.policies import RetryPolicyContract  # noqa: E402
from promptmill.testing.providers import ProviderContract  # noqa: E402
from promptmill.testing.records import request, result  # noqa: E402
from promptmill.testing.sinks import SinkContract  # noqa: E402
from promptmill.testing.sources import SourceContract  # noqa: E402

__all__ = [
    "BatchProviderContract",
    "ConditionContract",
    "EchoProvider",
    "ProviderContract",
    "RetryPolicyContract",
    "ScriptedProvider",
    "SinkContract",
    "SourceContract",
    "request",
    "result",
]
