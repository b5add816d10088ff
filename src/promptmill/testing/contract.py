"""What all contract classes share: they run async tests on asyncio and know how to build from options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from pydantic import ValidationError

from promptmill.jsontext import JSON
from promptmill.options import BuildContext, Options

C = TypeVar("C")


class Contract:
    """Base of the contract classes.

    ``self.folder`` is an empty directory of the test. Set ``options_class`` and override :meth:`settings`, or override
    the ``make_...`` method of the kind when the component is not built from options.
    """

    pytestmark = pytest.mark.anyio

    options_class: ClassVar[type[Options[Any]] | None] = None
    """What the component registers; None when it is not made from options."""

    folder: Path

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _take_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def settings(self) -> Mapping[str, JSON]:
        """What a job file says about the component, without ``use``."""
        return {}

    def build(self, settings: Mapping[str, JSON] | None = None) -> Any:
        """The component made from ``settings`` (default: :meth:`settings`), not opened."""
        if self.options_class is None:
            raise TypeError(f"{type(self).__name__!r} sets neither options_class nor its make method")
        options = self.options_class.model_validate(self.settings() if settings is None else settings)
        return options.build(BuildContext(name="contract", base_dir=self.folder))

    def _options(self) -> type[Options[Any]]:
        if self.options_class is None:
            pytest.skip("not made from options")
        return self.options_class

    def test_schema_builds(self) -> None:
        schema = self._options().model_json_schema()
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False

    def test_unknown_option_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="no_such_option"):
            self._options().model_validate({**self.settings(), "no_such_option": 1})
