"""The text form of a script, the ``--batch`` option's: ``nth=1,ending=expired,done=0.5``.

Keys are the fields of :class:`BatchScript` and of its parts, with ``-`` for ``_``. A word alone means ``true``. The
problems are ``fail=CODE`` with ``line=`` and ``message=``. ``line``, ``metadata``, ``status`` and ``stuck`` may be
repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator

from promptmill_simulator.batch_looks import BatchLooks
from promptmill_simulator.batch_script import BatchScript, BatchTimes
from promptmill_simulator.batch_troubles import LineTroubles
from promptmill_simulator.items import read_items

_PARTS: Final[Mapping[str, type[BaseModel]]] = {"times": BatchTimes, "lines": LineTroubles, "looks": BatchLooks}
_REPEATED: Final = frozenset({"line", "metadata", "status", "stuck"})


def parse_batch(text: str) -> BatchScript:
    """Read the text form of a script.

    Raises:
        ValueError: the text does not follow the grammar, or a value does not fit.
    """
    script: dict[str, Any] = {}
    for word, given in read_items(text, "batch", "key=value,... such as nth=1,ending=expired,done=0.5"):
        name, value = word.replace("-", "_"), "true" if given is None else given
        part = next((part for part, model in _PARTS.items() if name in model.model_fields), None)
        fields = script if part is None else script.setdefault(part, {})
        if name in _REPEATED:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise ValueError(f"batch {text!r}: {word!r} is given twice")
        else:
            fields[name] = value
    _set_metadata(script, text)
    _set_problems(script, text)
    return BatchScript.model_validate(script)


def _set_metadata(script: dict[str, Any], text: str) -> None:
    pairs = [pair.partition("=") for pair in script.pop("metadata", ())]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError(f"batch {text!r}: metadata is KEY=VALUE, as in metadata=shard=3")
    if pairs:
        script["metadata"] = {key: value for key, _, value in pairs}


def _set_problems(script: dict[str, Any], text: str) -> None:
    code, message, numbers = script.pop("fail", None), script.pop("message", None), script.pop("line", [None])
    if code is not None:
        script["fail_with"] = [{"code": code, "message": message, "line": number} for number in numbers]
    elif message is not None or numbers != [None]:
        raise ValueError(f"batch {text!r}: line and message belong to fail=CODE")


def _read(value: object) -> object:
    return parse_batch(value) if isinstance(value, str) else value


Script = Annotated[BatchScript, BeforeValidator(_read)]
"""A pydantic field type: a script, or its text form."""
