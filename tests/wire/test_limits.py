"""The table of limits: each tried at its maximum, which works, and one past it, which is refused by name.

Everything goes over the wire, signed, through the whole front. What a limit is in time or on a connection stands in
`tests/unit/aws/test_front.py` (signatures, bodies) and `tests/unit/aws/test_listener.py` (heads).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from mallee.aws import stages
from mallee.aws.filters import MAX_FILTERS, MAX_LENGTH, MAX_VALUES
from mallee.aws.protocol.form import MAX_DEPTH, MAX_PARAMETERS
from mallee.aws.stages import MAX_BODY, MAX_HEADERS
from mallee.clc.api.ec2.instances.describe import MOST_IDS
from mallee.clc.api.ec2.instances.launch_request import MOST, USER_DATA_BYTES
from mallee.clc.api.ec2.key_material import LONGEST_IMPORT
from mallee.clc.api.ec2.security_groups.rules import RULES_PER_GROUP
from mallee.clc.api.ec2.tagging import KEY_LENGTH, VALUE_LENGTH
from mallee.clc.api.ec2.tags import RESOURCES_AT_ONCE
from mallee.clc.db.tags import TAGS_PER_RESOURCE
from tests.unit.clc.pretend_cloud import IMAGE
from tests.wire.chance import Chance
from tests.wire.fuzzed_forms import PUBLIC_KEY, Form
from tests.wire.fuzzed_requests import Requests, Sent
from tests.wire.test_fuzz_actions import Door, opened

Make = Callable[[int], Form]
RUN = [("ImageId", IMAGE), ("InstanceType", "t3.nano")]
ONE = [*RUN, ("MinCount", "1"), ("MaxCount", "1")]
NO_INSTANCE = "InvalidInstanceID.NotFound"


def filters(names: int = 1, values: int = 1, length: int = 1) -> Form:
    return [
        pair
        for name in range(1, names + 1)
        for pair in (
            (f"Filter.{name}.Name", f"tag:{name}"),
            *((f"Filter.{name}.Value.{value}", "v" * length) for value in range(1, values + 1)),
        )
    ]


def tagged(count: int = 1, key: int = 1, value: int = 1) -> Form:
    """Tags of the image; keys of that length differ at their end."""
    pairs = [("ResourceId.1", "@ami")]
    for number in range(1, count + 1):
        pairs += [(f"Tag.{number}.Key", str(number).rjust(key, "k")), (f"Tag.{number}.Value", "v" * value)]
    return pairs


def ids(kind: str, name: str, count: int) -> Form:
    return [(f"{name}.{number}", f"{kind}-0{number:016x}") for number in range(1, count + 1)]


def key_of(size: int) -> str:
    """A public key of so many bytes: the rest is its comment."""
    return b64encode(b64decode(PUBLIC_KEY).ljust(size, b"c")).decode()


def rules(count: int) -> Form:
    one = "IpPermissions.1"
    head = [
        ("GroupId", "@sg"),
        (f"{one}.IpProtocol", "tcp"),
        (f"{one}.FromPort", "1"),
        (f"{one}.ToPort", "2"),
    ]
    ranges = [(f"{one}.IpRanges.{n}.CidrIp", f"10.{count}.{n}.0/24") for n in range(1, count + 1)]
    return head + ranges


# What is limited, the limit, the action, its form at a size, and how one more is refused; and how the maximum itself
# is answered where the form asks for what is not there.
LIMITS: list[tuple[str, int, str, Make, str, str]] = [
    ("parameters of a request", MAX_PARAMETERS, "DescribeInstances",
     lambda n: [(f"Unknown{i}", "") for i in range(n - 2)], "MalformedQueryString", "UnknownParameter"),
    ("filters", MAX_FILTERS, "DescribeInstances", lambda n: filters(names=n), "FilterLimitExceeded", ""),
    ("values of a filter", MAX_VALUES, "DescribeInstances", lambda n: filters(values=n), "FilterLimitExceeded", ""),
    ("length of a filter's value", MAX_LENGTH, "DescribeInstances",
     lambda n: filters(length=n), "InvalidParameterValue", ""),
    ("items of a page", 1000, "DescribeInstances", lambda n: [("MaxResults", str(n))], "InvalidParameterValue", ""),
    ("instances named at once", MOST_IDS, "DescribeInstances",
     lambda n: ids("i", "InstanceId", n), "InvalidParameterValue", NO_INSTANCE),
    ("resources tagged at once", RESOURCES_AT_ONCE, "CreateTags",
     lambda n: [*ids("i", "ResourceId", n), ("Tag.1.Key", "k")], "InvalidParameterValue", NO_INSTANCE),
    ("instances launched at once", MOST, "RunInstances",
     lambda n: [*RUN, ("MinCount", "1"), ("MaxCount", str(n))], "InvalidParameterValue", ""),
    ("bytes of user data", USER_DATA_BYTES, "RunInstances",
     lambda n: [*ONE, ("UserData", b64encode(b"u" * n).decode())], "InvalidParameterValue", ""),
    ("length of a client token", 64, "RunInstances",
     lambda n: [*ONE, ("ClientToken", "t" * n)], "InvalidParameterValue", ""),
    ("tags of a resource", TAGS_PER_RESOURCE, "CreateTags", lambda n: tagged(count=n), "TagLimitExceeded", ""),
    ("length of a tag's key", KEY_LENGTH, "CreateTags", lambda n: tagged(key=n), "InvalidParameterValue", ""),
    ("length of a tag's value", VALUE_LENGTH, "CreateTags", lambda n: tagged(value=n), "InvalidParameterValue", ""),
    ("length of a key pair's name", 255, "ImportKeyPair",
     lambda n: [("KeyName", "k" * n), ("PublicKeyMaterial", PUBLIC_KEY)], "InvalidParameterValue", ""),
    ("bytes of an imported key", LONGEST_IMPORT, "ImportKeyPair",
     lambda n: [("KeyName", "k"), ("PublicKeyMaterial", key_of(n))], "InvalidKey.Format", ""),
    ("length of a group's name", 255, "CreateSecurityGroup",
     lambda n: [("GroupName", "g" * n), ("GroupDescription", "d")], "InvalidParameterValue", ""),
    ("length of a group's description", 255, "CreateSecurityGroup",
     lambda n: [("GroupName", "g"), ("GroupDescription", "d" * n)], "InvalidParameterValue", ""),
    ("rules of a group, beside the one of its own", RULES_PER_GROUP - 1, "AuthorizeSecurityGroupIngress",
     rules, "RulesPerSecurityGroupLimitExceeded", ""),
    ("highest port", 65_535, "AuthorizeSecurityGroupIngress",
     lambda n: [("GroupId", "@sg"), ("IpPermissions.1.IpProtocol", "tcp"), ("IpPermissions.1.FromPort", "1"),
                ("IpPermissions.1.ToPort", str(n)), ("IpPermissions.1.IpRanges.1.CidrIp", "10.0.0.0/8")],
     "InvalidParameterValue", ""),
    ("length of an image's name", 128, "RegisterImage",
     lambda n: [("Name", "n" * n), ("ImageLocation", "builtin:tiny")], "InvalidAMIName.Malformed", ""),
    ("length of an image's description", 255, "RegisterImage",
     lambda n: [("Name", "name"), ("ImageLocation", "builtin:tiny"), ("Description", "d" * n)],
     "InvalidParameterValue", ""),
]  # fmt: skip


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    made = await opened(tmp_path, Chance(1))
    for action in ("DescribeImages", "DescribeSecurityGroups"):
        assert await made.code(action, []) == ""
    yield made
    await made.pretend.cloud.db.close()


@pytest.mark.parametrize("limit", LIMITS, ids=[row[0] for row in LIMITS])
async def test_a_limit_is_where_it_is_said_to_be(
    door: Door, limit: tuple[str, int, str, Make, str, str]
) -> None:
    _, most, action, make, refused, answered = limit
    assert await door.code(action, make(most)) == answered
    assert await door.code(action, make(most + 1)) == refused


async def test_the_bytes_of_a_body(door: Door) -> None:
    head = [("Action", "DescribeInstances"), ("Version", "2016-11-15"), ("Unknown", "")]
    room = MAX_BODY - len(urlencode(head))
    assert await door.code("", [*head[:2], ("Unknown", "x" * room)], whole=True) == "UnknownParameter"
    assert (
        await door.code("", [*head[:2], ("Unknown", "x" * (room + 1))], whole=True) == "RequestEntityTooLarge"
    )


async def test_the_bytes_of_the_head(door: Door) -> None:
    requests = Requests(Chance(1))

    def padded(more: int) -> Sent:
        sent = requests.plain(
            "ec2", door.moment(), [("Action", "DescribeRegions"), ("Version", "2016-11-15")]
        )
        used = sum(len(name) + len(value) for name, value in sent.headers)
        sent.headers.append((b"x-padding", b"p" * (MAX_HEADERS - used - len(b"x-padding") + more)))
        return sent

    assert await door.code_of(padded(0)) == ""
    assert await door.code_of(padded(1)) == "InvalidRequest"


async def test_a_name_has_as_many_levels_as_are_looked_at(door: Door) -> None:
    for levels in (MAX_DEPTH, MAX_DEPTH + 1, MAX_DEPTH + 2, 10_000):
        assert (
            await door.code("DescribeInstances", [(".".join(["Deep"] * levels), "x")]) == "UnknownParameter"
        )


async def test_the_seconds_of_a_body(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "BODY_SECONDS", 0.05)
    sent = Requests(Chance(1)).plain("ec2", door.moment(), [("Action", "DescribeRegions")])
    assert await door.code_of(sent, stalls=True) == "RequestTimeout"
