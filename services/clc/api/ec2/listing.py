"""Describe actions over small tables: filters on what is shown, pages by key.

What an action's filters look at is a table from the documented name to a function of the shown
resource; so a filter never disagrees with the answer. Families whose lists grow large narrow the
rows by an index first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from mallee.aws import filters
from mallee.aws.filters import Filter
from mallee.aws.pages import Page
from mallee.clc.call import Call
from mallee.kernel.db import Tx

Row = TypeVar("Row")
Shown = Mapping[str, Any]
Looks = Mapping[str, Callable[[Shown], Any]]

EVERYTHING = 1_000_000_000
_AT_ONCE = 1000


class Listing(NamedTuple):
    """What was found, and the key behind which more begins if there is more."""

    found: list[Shown]
    after: str | None

    def answer(self, call: Call, member: str) -> dict[str, Any]:
        more = (
            {} if self.after is None else {"NextToken": call.cloud.pages.next_token(call.request, self.after)}
        )
        return {member: self.found, **more}


class Sought:
    """The filters of one request over resources as they are shown."""

    def __init__(self, given: Sequence[Mapping[str, Any]] | None, looks: Looks) -> None:
        self._looks = looks
        self.filters = filters.parse(given, looks)

    def exact(self, name: str) -> tuple[str, ...] | None:
        """The values of that filter, if it is there and has no wildcard."""
        return next((one.exact for one in self.filters if one.name == name), None)

    def passes(self, shown: Shown) -> bool:
        tags = {tag["Key"]: tag["Value"] for tag in shown.get("Tags") or shown.get("TagSet") or ()}
        return filters.passes(self.filters, {one.name: self._look(one, shown) for one in self.filters}, tags)

    def _look(self, one: Filter, shown: Shown) -> Any:
        return self._looks[one.name](shown) if one.tag_key is None else None


def member(*path: str) -> Callable[[Shown], Any]:
    """What a shown resource has at a path of names; of each element where there is a list."""

    def look(shown: Shown) -> Any:
        return list(_walk(shown, path))

    return look


def _walk(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _walk(one, path)
    elif not path:
        yield value
    elif path[0] in value:
        yield from _walk(value[path[0]], path[1:])


def nothing(_: Shown) -> None:
    """Of a filter on what no resource of this cloud has (yet): it matches none, as it would on EC2."""


TAG_LOOKS: Looks = {"tag:": nothing, "tag-key": member("Tags", "Key")}


def page_of(
    call: Call, req: Mapping[str, Any], *, low: int = 5, high: int = 1000, default: int = EVERYTHING
) -> Page:
    """The page that MaxResults and NextToken ask for; without MaxResults everything."""
    return call.cloud.pages.page(
        call.request,
        max_results=req.get("MaxResults"),
        token=req.get("NextToken"),
        low=low,
        high=high,
        default=default,
    )


def listed(
    tx: Tx,
    page: Page,
    *,
    fetch: Callable[[Tx, str, int], Sequence[Row]],
    show: Callable[[Tx, Sequence[Row]], Sequence[Shown]],
    key: Callable[[Row], str],
    sought: Sought,
) -> Listing:
    """One page of what passes.

    Args:
        tx: a reading one.
        page: the key to begin behind, and how many.
        fetch: so many rows from behind a key, in the order of their keys.
        show: rows as they are shown, in the same order.
        key: of a row.
        sought: the filters.
    """
    found: list[Shown] = []
    after, last = page.after, page.after
    size = min(page.limit + 1, _AT_ONCE)
    while True:
        rows = fetch(tx, after, size)
        for row, shown in zip(rows, show(tx, rows), strict=True):
            if not sought.passes(shown):
                continue
            if len(found) == page.limit:
                return Listing(found, last)
            found.append(shown)
            last = key(row)
        if len(rows) < size:
            return Listing(found, None)
        after = key(rows[-1])


def slice_of(rows: Sequence[Row], key: Callable[[Row], str]) -> Callable[[Tx, str, int], Sequence[Row]]:
    """A `fetch` over rows that are all here already, in the order of their keys."""

    def fetch(_: Tx, after: str, size: int) -> Sequence[Row]:
        return [row for row in rows if key(row) > after][:size]

    return fetch


def missing(wanted: Collection[str], found: Collection[str]) -> list[str]:
    """Those of `wanted` that were not found, each once, in order."""
    return [one for one in dict.fromkeys(wanted) if one not in found]
