"""DescribeInstances: by id, by filter, page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mallee.aws.errors import InvalidParameterCombination, InvalidParameterValue
from mallee.aws.filters import TAG, Filter, parse
from mallee.aws.pages import Page
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances import filters as instance_filters
from mallee.clc.api.ec2.instances import reservations, view
from mallee.clc.api.ec2.instances.filters import COLUMNS, FILTERS
from mallee.clc.call import Call
from mallee.clc.db import instance_search, instances
from mallee.clc.db.instance_search import Head, Search
from mallee.clc.errors import InvalidInstanceIDMalformed, InvalidInstanceIDNotFound
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeInstancesRequestTypeDef

MOST_IDS = 1000
_STRIDE = 500  # rows looked at together where a filter has no column
# A page with such a filter may end early, with a token: no request looks at more rows than this.
_MOST_LOOKED_AT = 5000
_is_id = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})").fullmatch

EVERYTHING = Search()
DOCUMENTED = {**FILTERS, TAG: None}


def checked_ids(ids: Sequence[str]) -> list[str]:
    """The ids asked for, each once.

    Raises:
        InvalidInstanceIDMalformed: one cannot be an instance's.
        InvalidParameterValue: more than a request may name.
    """
    for each in ids:
        if not _is_id(each):
            raise InvalidInstanceIDMalformed(each)
    if len(ids) > MOST_IDS:
        raise InvalidParameterValue(f"A request can name at most {MOST_IDS} instances.")
    return list(dict.fromkeys(ids))


@ec2.action(
    "DescribeInstances",
    accepts=("InstanceIds", "Filters", "MaxResults", "NextToken", "IncludeManagedResources", "DryRun"),
    filters=DOCUMENTED,
)
async def describe_instances(call: Call, req: DescribeInstancesRequestTypeDef) -> dict[str, Any]:
    """Instances by id, by filter, or page by page in the order of their ids."""
    asked = checked_ids(req.get("InstanceIds", ()))
    filters = parse(req.get("Filters"), DOCUMENTED)
    page = page_of(call, req, asked)

    def look(tx: Tx) -> tuple[list[reservations.Reservation], str]:
        found = find(tx, call, asked, filters, page)
        return reservations.collect(tx, call, found.heads), found.next

    shown, following = await call.cloud.db.read(look)
    answer: dict[str, Any] = {"Reservations": shown}
    if following:
        answer["NextToken"] = call.cloud.pages.next_token(call.request, following)
    return answer


def page_of(call: Call, req: Any, asked: Sequence[str]) -> Page:
    """The page asked for; ids and pages exclude each other."""
    if asked and ("MaxResults" in req or "NextToken" in req):
        raise InvalidParameterCombination(
            "The parameter instancesSet cannot be used with the parameter maxResults"
        )
    return call.cloud.pages.page(
        call.request,
        max_results=req.get("MaxResults"),
        token=req.get("NextToken"),
        default=reservations.ALL,
    )


class Found(NamedTuple):
    """Heads of a page, and the key behind which the next one begins; empty at the end."""

    heads: list[Head]
    next: str


def find(
    tx: Tx,
    call: Call,
    asked: Sequence[str],
    filters: Sequence[Filter],
    page: Page,
    search: Search = EVERYTHING,
) -> Found:
    """The account's instances that pass all filters, by id; those asked for in the order asked.

    Raises:
        InvalidInstanceIDNotFound: one that was asked for is not the account's.
    """
    if asked:
        heads = instance_search.heads(tx, call.account, asked)
        missing = [each for each in asked if each not in heads]
        if missing:
            raise InvalidInstanceIDNotFound(*missing)
        found = [heads[each] for each in asked]
        return Found(_passing(tx, call, found, filters) if filters else found, "")
    search, left = conditions(filters, search, show_host=call.is_cloud_admin)
    if left:
        return _walk(tx, call, search, left, page)
    heads_found = instance_search.page(tx, call.account, search, page.after, page.limit + 1)
    if len(heads_found) > page.limit:
        return Found(heads_found[: page.limit], heads_found[page.limit - 1].id)
    return Found(heads_found, "")


def conditions(filters: Sequence[Filter], search: Search, *, show_host: bool) -> tuple[Search, list[Filter]]:
    """What the table answers, and the filters that are left for what is shown."""
    columns, tagged = dict(search.columns), dict(search.tagged)
    tag_keys, left = list(search.tag_keys), []
    for each in filters:
        exact = each.exact
        column, convert = COLUMNS.get(each.name, ("", str))
        if exact is None:
            left.append(each)
        elif each.tag_key is not None and each.tag_key not in tagged:
            tagged[each.tag_key] = exact
        elif each.name == "tag-key":
            tag_keys.append(exact)
        elif each.name == "host-id" and show_host and "host_id" not in columns:
            columns["host_id"] = exact
            left.append(each)  # an instance that ended has left its node
        elif column and column not in columns:
            columns[column] = [convert(value) for value in exact]
        else:
            left.append(each)
    return Search(columns, tagged, tag_keys), left


def _walk(tx: Tx, call: Call, search: Search, left: Sequence[Filter], page: Page) -> Found:
    """Filters without a column: look at rows until the page is full."""
    hits: list[Head] = []
    after, looked_at = page.after, 0
    bounded = page.limit < reservations.ALL
    while True:
        heads = instance_search.page(tx, call.account, search, after, _STRIDE)
        hits += _passing(tx, call, heads, left)
        looked_at += len(heads)
        if len(hits) > page.limit:
            return Found(hits[: page.limit], hits[page.limit - 1].id)
        if len(heads) < _STRIDE:
            return Found(hits, "")
        after = heads[-1].id
        if bounded and looked_at >= _MOST_LOOKED_AT:
            return Found(hits, after)


def _passing(tx: Tx, call: Call, heads: Sequence[Head], filters: Sequence[Filter]) -> list[Head]:
    if not heads:
        return []
    rows = instances.find(tx, [head.id for head in heads])
    passing = set()
    for seen in view.look(tx, call.account, rows):
        shown = view.instance(call, seen)
        if all(_passes(each, shown, seen) for each in filters):
            passing.add(seen.row.id)
    return [head for head in heads if head.id in passing]


def _passes(each: Filter, shown: dict[str, Any], seen: view.Seen) -> bool:
    if each.tag_key is not None:
        return each.matches(seen.tags.get(each.tag_key))
    return each.matches(instance_filters.FILTERS[each.name](shown, seen))
