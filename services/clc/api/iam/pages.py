"""IAM's lists: a Marker where more follows, and IsTruncated in any case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mallee.aws.errors import ValidationError
from mallee.aws.pages import Page
from mallee.clc.api.iam import forms
from mallee.clc.call import Call
from mallee.kernel.db import Tx

Row = TypeVar("Row")


async def marked(
    call: Call,
    req: Mapping[str, Any],
    fetch: Callable[[Tx, str, int], Sequence[Row]],
    key: Callable[[Row], str],
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the page asked for, and the members that say whether more follow.

    Args:
        call: whose page it is.
        req: MaxItems and Marker.
        fetch: so many rows from behind a key, in the order of their keys.
        key: of a row.

    Raises:
        ValidationError: MaxItems out of range, or a Marker that is none of ours.
    """
    size = forms.page_size(req.get("MaxItems"))
    page: Page = call.cloud.pages.page(
        call.request, max_results=None, token=req.get("Marker"), default=size, error=ValidationError
    )
    rows = await call.cloud.db.read(lambda tx: list(fetch(tx, page.after, page.limit + 1)))
    if len(rows) <= page.limit:
        return rows, {"IsTruncated": False}
    rows = rows[: page.limit]
    return rows, {"IsTruncated": True, "Marker": call.cloud.pages.next_token(call.request, key(rows[-1]))}
