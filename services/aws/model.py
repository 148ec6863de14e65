"""Amazon's own models of its services, read from botocore's data, and the operations added here.

Only the JSON of botocore is used, found without importing it: reading the EC2 model so takes a
tenth of what its loader takes, and every start of the cloud pays for it. An extras file is merged
as botocore merges it (`service-2.sdk-extras.json`), so client and server read one and the same
description.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

EXTRAS_DIR: Final = Path(__file__).parent / "extras"  # laid out as botocore's loader wants it
_ORDERS: Final = Path(__file__).parent / "element_order"
VERSIONS: Final[Mapping[str, str]] = {
    "ec2": "2016-11-15",
    "iam": "2010-05-08",
    "sts": "2011-06-15",
    "autoscaling": "2011-01-01",
    "s3": "2006-03-01",
}


class Shape:
    """One shape where it is used: the type, with what the reference to it adds (its name on the wire).

    Attributes:
        name: the shape's name in the model.
        type: structure, list, map, string, integer, long, float, double, boolean, blob, timestamp.
        traits: what the model says about it, the reference's own words winning.
    """

    def __init__(self, shapes: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
        self._shapes = shapes
        self.name: str = reference["shape"]
        self.traits: Mapping[str, Any] = {**shapes[self.name], **reference}
        self.type: str = self.traits["type"]

    @cached_property
    def members(self) -> Mapping[str, Shape]:
        """The members of a structure, in the model's order."""
        return {name: Shape(self._shapes, ref) for name, ref in self.traits.get("members", {}).items()}

    def only(self, names: Collection[str]) -> Shape:
        """The structure with these members alone."""
        kept = {name: ref for name, ref in self.traits["members"].items() if name in names}
        return Shape(self._shapes, {"shape": self.name, "members": kept})

    @cached_property
    def element(self) -> Shape:
        """What a list is of."""
        return Shape(self._shapes, self.traits["member"])

    @cached_property
    def key(self) -> Shape:
        """What a map's keys are."""
        return Shape(self._shapes, self.traits["key"])

    @cached_property
    def value(self) -> Shape:
        """What a map's values are."""
        return Shape(self._shapes, self.traits["value"])

    @property
    def required(self) -> tuple[str, ...]:
        """The members that must be there."""
        return tuple(self.traits.get("required", ()))

    @property
    def location(self) -> str | None:
        """The name on the wire, where it is not the member's own."""
        return self.traits.get("locationName")

    @property
    def flattened(self) -> bool:
        return bool(self.traits.get("flattened"))

    @property
    def sensitive(self) -> bool:
        """Whether a value may never be repeated, in an answer or a log."""
        return bool(self.traits.get("sensitive"))


class Model:
    """One service: its protocol, its operations, their shapes.

    Args:
        service: `ec2`, `iam`, ...
        data: the decoded `service-2` model.
        order: for a shape's name, the wire names of its members in the order in which AWS's
            recorded answers carry them; the model's own order is alphabetical for old members.
    """

    def __init__(
        self, service: str, data: Mapping[str, Any], order: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        metadata = data["metadata"]
        self.service = service
        self.version: str = metadata["apiVersion"]
        self.protocol: str = metadata["protocol"]
        self.namespace: str = metadata.get("xmlNamespace", "")
        self.operations: Mapping[str, Mapping[str, Any]] = data["operations"]
        self.order = order or {}
        self._shapes: Mapping[str, Any] = data["shapes"]

    def input(self, operation: str) -> Shape | None:
        """The input of an operation, or None if it takes nothing."""
        reference = self.operations[operation].get("input")
        return Shape(self._shapes, reference) if reference else None

    def output(self, operation: str) -> Shape | None:
        """The output of an operation, or None if it answers only that it is done."""
        reference = self.operations[operation].get("output")
        return Shape(self._shapes, reference) if reference else None

    def result_wrapper(self, operation: str) -> str | None:
        """The query protocol's element around the result."""
        wrapper: str | None = self.operations[operation].get("output", {}).get("resultWrapper")
        return wrapper

    def input_paths(self, operation: str) -> frozenset[str] | None:
        """Every dotted member of the input, lists without index; None for an unknown operation."""
        if operation not in self.operations:
            return None
        shape = self.input(operation)
        return frozenset(_paths(shape, "", ())) if shape else frozenset()


def _paths(shape: Shape, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    if shape.type == "list":
        yield from _paths(shape.element, prefix, above)
    elif shape.type == "structure" and shape.name not in above:  # a recursive shape ends where it recurs
        for name, member in shape.members.items():
            yield prefix + name
            yield from _paths(member, f"{prefix}{name}.", (*above, shape.name))


def load(service: str, *, extras_dir: Path | None = EXTRAS_DIR) -> Model:
    """The model of a service, with the operations added in `extras_dir`.

    Raises:
        KeyError: a service that is not offered.
        FileNotFoundError: botocore's data is not installed.
    """
    place = Path(service) / VERSIONS[service]
    data = _read(_botocore_data() / place / "service-2.json.gz")
    order: dict[str, tuple[str, ...]] = {}
    if extras_dir is not None:
        for found in _existing(extras_dir / place / "service-2.sdk-extras.json"):
            _merge(data, _read(found)["merge"])
    for found in _existing(_ORDERS / f"{service}.json"):
        order = {name: tuple(names) for name, names in _read(found).items()}
    return Model(service, _without_documentation(data), order)


def _existing(path: Path) -> Iterator[Path]:
    if path.exists():
        yield path


def _botocore_data() -> Path:
    spec = find_spec("botocore")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("botocore is not installed; its data holds the models of the services")
    return Path(spec.origin).parent / "data"


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    decoded: dict[str, Any] = msgspec.json.decode(
        gzip.decompress(content) if path.suffix == ".gz" else content
    )
    return decoded


def _merge(into: dict[str, Any], extras: Mapping[str, Any]) -> None:
    for key, value in extras.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _without_documentation(data: dict[str, Any]) -> dict[str, Any]:
    """Half of a model is prose that no server reads; kept, it is 12 MiB of memory for EC2."""
    for operation in data["operations"].values():
        operation.pop("documentation", None)
    for shape in data["shapes"].values():
        shape.pop("documentation", None)
        for member in shape.get("members", {}).values():
            member.pop("documentation", None)
    return data
