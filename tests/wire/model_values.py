"""Values made from a botocore shape, the same ones at each run, and a slow writer to compare with."""

import base64
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zlib import crc32

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from mallee.aws import model
from mallee.kernel.entropy import SeededEntropy

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


def chance(seed: str) -> SeededEntropy:
    """The same numbers for the same words."""
    return SeededEntropy(crc32(seed.encode()))


def sample(shape: Shape, dice: SeededEntropy, *, keep: float = 1.0, above: tuple[str, ...] = ()) -> Any:
    """A value of the shape; each optional member is there with the probability `keep`."""
    match shape.type_name:
        case "structure":
            members = {name: one for name, one in shape.members.items() if one.name not in above}
            kept = [name for name in members if dice.uniform(0, 1) < keep or name in shape.required_members]
            inside = (*above, shape.name)  # an empty structure cannot be sent, so at least one member stays
            kept = kept or list(members)[:1]
            return {name: sample(members[name], dice, keep=keep, above=inside) for name in kept}
        case "list":
            size = 1 + int(dice.uniform(0, 3)) if len(above) < 4 else 1
            return [sample(shape.member, dice, keep=keep, above=(*above, shape.name)) for _ in range(size)]
        case "map":
            return {f"k{n}": sample(shape.value, dice, keep=keep, above=above) for n in range(2)}
    return scalar(shape.type_name, dice)


def sendable(value: Any) -> Any:
    """The value without empty structures and lists, which a form cannot carry; None if nothing is left."""
    if isinstance(value, dict):
        kept = {name: sendable(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one is not None} or None
    if isinstance(value, list):
        return [one for one in map(sendable, value) if one is not None] or None
    return value


def scalar(kind: str, dice: SeededEntropy) -> Any:
    whole = int(dice.uniform(-(2**31), 2**31))
    start = datetime(2012, 10, 16, 20, 0, 21, tzinfo=UTC)
    made = {
        "string": TEXTS[whole % len(TEXTS)],
        "integer": whole,
        "long": whole * 2**32,
        "float": whole / 8,
        "double": whole * 1e-9,
        "boolean": whole % 2 == 0,
        "blob": dice.token(whole % 9),
        "timestamp": start + timedelta(seconds=whole // 8),
    }
    return made[kind]


def comparable(value):
    """As text, because NaN is not equal to itself; members sorted, times in UTC."""
    if isinstance(value, dict):
        return str({name: comparable(value[name]) for name in sorted(value)})
    if isinstance(value, list):
        return str([comparable(one) for one in value])
    if isinstance(value, datetime):
        return str(value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))
    return str(value)


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
