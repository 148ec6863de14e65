"""Which operation a request means: method, depth of its address, query markers, headers.

Compiled from the model, every operation of it, built or not. A query parameter that is the marker
of some operation (`?acl`, `?uploadId=`) never falls through to the plain operation of its method:
`DELETE /bucket?analytics` without its id must not delete the bucket.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from mallee.aws.model import Model, Shape
from mallee.aws.rest_xml.errors import RestError

SERVICE, BUCKET, KEY = range(3)  # how deep an address goes
_DEPTH: Final[Mapping[str, int]] = {"/": SERVICE, "/{Bucket}": BUCKET, "/{Bucket}/{Key+}": KEY}
_UNROUTED: Final = frozenset({  # served elsewhere, or the same request as another one
    "WriteGetObjectResponse",  # a host of its own
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Route:
    operation: str
    marker: str
    literals: tuple[tuple[str, str], ...]  # query parameters that have this value
    parameters: tuple[str, ...]  # query parameters that must be there
    headers: tuple[bytes, ...]  # headers that must be there

    def fits(self, query: Mapping[str, str], headers: Collection[bytes]) -> bool:
        return (
            all(name in query for name in self.parameters)
            and all(name in headers for name in self.headers)
            and all(query.get(name) == value for name, value in self.literals)
        )

    @property
    def weight(self) -> int:
        return len(self.parameters) + len(self.headers) + len(self.literals)


class Router:
    """The routes of one model."""

    def __init__(self, model: Model) -> None:
        found: dict[tuple[str, int, str], list[_Route]] = {}
        for name, operation in model.operations.items():
            if name in _UNROUTED or (
                operation.get("deprecated") and name + "Configuration" in model.operations
            ):
                continue
            uri, _, marks = operation["http"]["requestUri"].partition("?")
            route = _route(name, model.input(name), marks)
            found.setdefault((operation["http"]["method"], _DEPTH[uri], route.marker), []).append(route)
        self._routes = {
            place: sorted(routes, key=lambda route: -route.weight) for place, routes in found.items()
        }
        self._markers = {marker for _, _, marker in found} - {""}
        self._methods = {place[0] for place in found}

    def find(self, method: str, depth: int, query: Mapping[str, str], headers: Collection[bytes]) -> str:
        """The operation's name.

        Args:
            method: of HTTP.
            depth: SERVICE, BUCKET or KEY.
            query: the decoded parameters.
            headers: the lower-case names of those sent.

        Raises:
            RestError: MethodNotAllowed; InvalidArgument, for two markers or a wrong value.
        """
        marker = self._marker(query) if query else ""
        routes = self._routes.get((method, depth, marker))
        if routes is None:
            raise RestError(
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
                405,
                details={
                    "Method": method,
                    "ResourceType": (marker or ("SERVICE", "BUCKET", "OBJECT")[depth]).upper(),
                },
            )
        for route in routes:
            if route.fits(query, headers):
                return route.operation
        for name, value in routes[-1].literals:
            if query.get(name) != value:
                raise _invalid(
                    f"Invalid value of {name}: {value} is the only one.", name, query.get(name, "")
                )
        return routes[-1].operation  # its reader says what is missing

    def _marker(self, query: Mapping[str, str]) -> str:
        found = [name for name in query if name in self._markers]
        if len(found) > 1:
            clash = ", ".join(sorted(found))
            raise _invalid(f"Conflicting query string parameters: {clash}", "ResourceType", found[0])
        return found[0] if found else ""


def _invalid(why: str, name: str, value: str) -> RestError:
    return RestError("InvalidArgument", why, details={"ArgumentName": name, "ArgumentValue": value})


def _route(name: str, shape: Shape | None, marks: str) -> _Route:
    literals = parse_qsl(marks, keep_blank_values=True)
    required = list(_required(shape)) if shape else []
    parameters = tuple(
        member.location or "" for member in required if member.traits["location"] == "querystring"
    )
    headers = tuple(
        (member.location or "").lower().encode()
        for member in required
        if member.traits["location"] == "header"
    )
    marker = literals[0][0] if literals else (parameters[-1] if parameters else "")
    return _Route(name, marker, tuple(pair for pair in literals if pair[1]), parameters, headers)


def _required(shape: Shape) -> Iterator[Shape]:
    for name in shape.required:
        member = shape.members[name]
        if member.traits.get("location") in {"querystring", "header"}:
            yield member
