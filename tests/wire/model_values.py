"""Values made from a botocore shape, the same ones at each run, and a slow writer to compare with."""

import base64
import json
import random
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from mallee.aws import model

SERVICES = ("ec2", "iam", "sts", "autoscaling")
TEXTS = (
    "i-0123456789abcdef0",
    "a & b < c > d \"e\" 'f'",
    "käng aroo \U0001f998",
    "",
    " x ",
    "]]>",
    "a.b+c%20=&",
)


@cache
def service_model(service: str) -> ServiceModel:
    """botocore's own view of a service, extras merged by botocore's own loader."""
    loader = Loader(extra_search_paths=[str(model.EXTRAS_DIR)])
    return ServiceModel(loader.load_service_model(service, "service-2", model.VERSIONS[service]), service)


def sample(shape: Shape, chance: random.Random, *, keep: float = 1.0, above: tuple[str, ...] = ()) -> Any:
    """A value of the shape; each optional member is there with the probability `keep`."""
    match shape.type_name:
        case "structure":
            members = {name: one for name, one in shape.members.items() if one.name not in above}
            kept = [name for name in members if chance.random() < keep or name in shape.required_members]
            inside = (*above, shape.name)  # an empty structure cannot be sent, so at least one member stays
            kept = kept or list(members)[:1]
            return {name: sample(members[name], chance, keep=keep, above=inside) for name in kept}
        case "list":
            size = chance.choice((1, 2, 3)) if len(above) < 4 else 1
            return [sample(shape.member, chance, keep=keep, above=(*above, shape.name)) for _ in range(size)]
        case "map":
            return {f"k{n}": sample(shape.value, chance, keep=keep, above=above) for n in range(2)}
    return scalar(shape.type_name, chance)


def sendable(value: Any) -> Any:
    """The value without empty structures and lists, which a form cannot carry; None if nothing is left."""
    if isinstance(value, dict):
        kept = {name: sendable(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one is not None} or None
    if isinstance(value, list):
        return [one for one in map(sendable, value) if one is not None] or None
    return value


def scalar(kind: str, chance: random.Random) -> Any:
    match kind:
        case "string" | "character":
            return chance.choice(TEXTS)
        case "integer":
            return chance.randint(-(2**31), 2**31 - 1)
        case "long":
            return chance.randint(-(2**63), 2**63 - 1)
        case "float" | "double":
            return chance.choice((0.0, -1.5, 1e-9, 12345.678))
        case "boolean":
            return chance.random() < 0.5
        case "blob":
            return chance.randbytes(chance.randint(0, 9))
        case "timestamp":
            return datetime(2012, 10, 16, 20, 0, 21, tzinfo=UTC) + timedelta(seconds=chance.randint(0, 10**8))
    raise AssertionError(kind)


def slow_xml(shape: Shape, value: Any, tag: str, protocol: str) -> ET.Element:
    """A result as an element tree, by walking the shape: what the compiled writer must agree with."""
    element = ET.Element(tag)
    match shape.type_name:
        case "structure":
            for name, member in shape.members.items():
                if name in value:
                    element.append(
                        slow_xml(member, value[name], member.serialization.get("name", name), protocol)
                    )
        case "list":
            item = shape.member.serialization.get("name", "member")
            element.extend(slow_xml(shape.member, one, item, protocol) for one in value)
        case "map":
            for key, one in value.items():
                entry = ET.SubElement(element, "entry")
                entry.append(slow_xml(shape.key, key, "key", protocol))
                entry.append(slow_xml(shape.value, one, "value", protocol))
        case "boolean":
            element.text = json.dumps(value)
        case "blob":
            element.text = base64.b64encode(value).decode()
        case "timestamp":
            element.text = value.strftime("%Y-%m-%dT%H:%M:%S" + (".000Z" if protocol == "ec2" else "Z"))
        case _:
            element.text = str(value)
    return element


def plain(element: ET.Element, *, ordered: bool = False) -> Any:
    """An element as (tag, text, children), without namespaces; children by tag unless `ordered`."""
    children = [plain(child, ordered=ordered) for child in element]
    if not ordered:
        children.sort(key=lambda child: child[0])  # stable: the elements of a list stay in order
    return element.tag.rpartition("}")[2], (element.text or "") if not children else "", children
