"""Pages of lists: ``limit``, ``order`` and ``after``, as the API has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptmill_simulator.apierror import ApiError, Reply, json_reply


def page(
    items: Sequence[tuple[str, dict[str, Any]]], query: Mapping[str, str], *, limit: int, most: int, empty_ids: bool
) -> Reply:
    """The page the query asks for.

    Args:
        items: id and object of everything there is, oldest first.
        query: of the request.
        limit: items on a page when the query does not say.
        most: the most items a page may have.
        empty_ids: whether ``first_id`` and ``last_id`` are there, empty, on an empty page.

    Raises:
        ApiError: a value cannot be used.
    """
    size = _size(query.get("limit"), limit, most)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ApiError(400, f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'.", param="order")
    ordered = list(items) if order == "asc" else list(reversed(items))
    after = query.get("after")
    if after:
        places = [place for place, (name, _) in enumerate(ordered) if name == after]
        if not places:
            raise ApiError(404, f"No object found with id '{after}'.", param="after")
        ordered = ordered[places[0] + 1 :]
    shown = ordered[:size]
    body: dict[str, Any] = {"object": "list", "data": [shape for _, shape in shown], "has_more": len(ordered) > size}
    if shown or empty_ids:
        body["first_id"] = shown[0][0] if shown else ""
        body["last_id"] = shown[-1][0] if shown else ""
    return json_reply(body)


def _size(text: str | None, limit: int, most: int) -> int:
    if text is None:
        return limit
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ApiError(400, f"Invalid 'limit': expected an integer from 1 to {most}, but got '{text}'.", param="limit")
    return int(text)
