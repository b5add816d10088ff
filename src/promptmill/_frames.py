"""Data frames as rows, whoever made them: recognised by what they can do, so that no library is needed for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from promptmill.errors import InputError

_MISSING: Final = frozenset({"NAType", "NaTType"})
"""What pandas puts where there is no value, and what compares with nothing."""


def rows_of_frame(value: Any) -> Iterable[Mapping[str, Any]] | None:
    """The rows of a data frame (pandas, polars, PyArrow and what behaves like them); None when it is none.

    Iterating over a frame itself gives its columns. Missing values and NaN become None.

    Raises:
        InputError: it is a frame whose rows cannot be had (E0330).
    """
    kind = type(value)  # asking the value itself may compute something
    if not hasattr(kind, "columns"):
        return None
    if hasattr(kind, "iter_rows"):
        return map(_row, value.iter_rows(named=True))
    if hasattr(kind, "itertuples"):
        names = [str(name) for name in value.columns]
        return (_row(dict(zip(names, values, strict=True))) for values in value.itertuples(index=False, name=None))
    if hasattr(kind, "to_batches") and hasattr(kind, "column_names"):
        return _rows_of_batches(value)
    if any(hasattr(kind, name) for name in ("dtypes", "schema", "collect")):
        raise InputError(
            f"the rows of a {kind.__module__}.{kind.__qualname__} cannot be had one by one",
            code="E0330",
            hint="collect it first, or convert it to a pandas or polars data frame or a list of mappings",
        )
    return None


def _rows_of_batches(value: Any) -> Iterator[Mapping[str, Any]]:
    for batch in value.to_batches():
        yield from map(_row, batch.to_pylist())


def _row(values: Mapping[Any, Any]) -> Mapping[str, Any]:
    return {str(name): _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """A cell as plain data."""
    if value is None or isinstance(value, str | bool | int):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return float(value) if value == value else None
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, Mapping):
        return _row(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    for way in ("isoformat", "tolist", "to_list"):
        if hasattr(value, way):
            return _plain(getattr(value, way)())
    return str(value)
