"""Forms that have the right shape and wrong values: what a careless or hostile client sends.

A form is drawn along the model's shape of an action's input. Most values are plausible, so that
handlers are reached; the others are what handlers were not thought for. Ids of what there is are drawn as
marks (`@i`) and put in when the form is sent. Everything comes from one seeded `Random`, by hand: a library
that also shrinks takes ten times as long, and there is nothing to shrink to in a cloud that changes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from mallee.aws.actions import Action
from mallee.aws.model import Model, Shape
from mallee.aws.protocol.reader import Accepted, accepted
from tests.wire.chance import Chance

Form = list[tuple[str, str]]

_ID = re.compile(r"\b([a-z]{1,8})-[0-9a-f]{17}\b|\bAKIA[A-Z0-9]{16}\b")
PUBLIC_KEY = b64encode(
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqaqJ8fTqOGxzvxCUfSxEYBIM1AfBg/sDqKcB9CBfMk ada@example"
).decode()
BAD_TEXTS = (
    *("", " ", "0", "-1", "*", "**", "?", "\\", "\\*", "%", "_", "'", '"', "null", "None", "[]", "{}"),
    *(
        "a" * 300,
        "x" * 70_000,
        "é" * 256,
        "\U0001f998",
        "\u202e",
        "\ufffe",
        "\x01\x1f\x7f",
        "\t\r\n",
        "\ud7ff",
    ),
    *("i-", "i-0", "i-zzzzzzzzzzzzzzzzz", "i-0123456789abcdef0", "I-0123456789ABCDEF0", "sg-1", "ami-"),
    *(
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "fe80::1%eth0",
        "1.2.3.4",
        "999.1.1.1/8",
        "1.2.3.4/-1",
    ),
    *("9223372036854775807", "9223372036854775808", "1" * 5000, "1e999", "NaN", "-0", "٣", "①", "0x10"),
    *("../../etc/passwd", "arn:aws:iam::1:root", "aws:reserved", "tag:", "tag:" + "k" * 200, "true", "TRUE"),
    *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "0000-00-00", "2026-02-30T00:00:00Z", "-62135596801"),
    *("<a>", "&amp;", "]]>", "${jndi:x}", "'; DROP TABLE instances; --", "a,b", "a|b", "a.b.c", "\u0130"),
)
BAD_NUMBERS = (
    *("0", "-1", "1", "5", "1000", "1001", "65535", "65536", "2147483647", "-2147483648", "2147483648"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "",
        " 1",
        "1.0",
        "1e3",
        "+1",
        "00",
        "0x1",
        "ten",
        "-0",
        "99999",
    ),
)
BAD_TIMES = (
    *(
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
    ),
    *("253402300799", "253402300800", "-62135596800", "1e300", "2026-02-30", "now", "", "NaN", "-1"),
)
TEXTS = {
    "InstanceType": ("t3.micro", "m5.large", "t3.nano"),
    "KeyName": ("one", "two"),
    "GroupName": ("default", "web"),
    "AvailabilityZone": ("mallee-1a", "mallee-1b", "mallee-9z"),
    "Name": ("web", "Name", "state", "instance-type"),
    "Key": ("Name", "k", "aws:x", "mallee:workload"),
    "PublicKeyMaterial": (PUBLIC_KEY,),
    "LocationType": ("region", "availability-zone"),
    "IpProtocol": ("tcp", "udp", "icmp", "-1", "58", "icmpv6", "6"),
    "CidrIp": ("0.0.0.0/0", "10.0.0.0/8"),
    "CidrIpv6": ("::/0", "2001:db8::/32"),
    "Path": ("/", "/a/"),
    "UserName": ("ada", "bob"),
    "AccountName": ("one", "two"),
    "ClientToken": ("token", "t2"),
    "VpcId": ("@vpc",),
    "ImageLocation": ("bucket/disk.raw", "builtin:tiny", "s3://bucket/disk.raw", "bucket/none", "none"),
    "SourceRegion": ("mallee-1", "us-east-1"),
    "OperationType": ("add", "remove"),
    "KernelId": ("true", "aki-01234567"),
    "ResourceType": ("instance", "key-pair", "security-group", "network-interface", "volume"),
}
MARKS = ("@i", "@sg", "@ami", "@eni", "@subnet", "@vpc", "@h", "@key", "@sgr", "@r", "@m", "@AKIA")
_RULE = {"GroupId", "IpPermissions", "IpProtocol", "FromPort", "ToPort", "IpRanges", "CidrIp"}
# What an action needs although the model does not say so.
ESSENTIAL = {
    "RunInstances": {"ImageId", "MinCount", "MaxCount"},
    "RegisterImage": {"Name", "ImageLocation"},
    "MigrateInstances": {"InstanceIds"},
    "AuthorizeSecurityGroupIngress": _RULE,
    "AuthorizeSecurityGroupEgress": _RULE,
    "RevokeSecurityGroupIngress": _RULE,
    "RevokeSecurityGroupEgress": _RULE,
    "CreateNodeToken": {"AvailabilityZone"},
    "CreateSecurityGroup": {"GroupName", "Description"},
    "CreateTags": {"Resources", "Tags", "Key", "Value"},
}
MARK_OF = {
    "InstanceId": "@i",
    "GroupId": "@sg",
    "SecurityGroupId": "@sg",
    "SecurityGroup": "default",
    "ImageId": "@ami",
    "SourceImageId": "@ami",
    "SubnetId": "@subnet",
    "NetworkInterfaceId": "@eni",
    "HostId": "@h",
    "SourceHost": "@h",
    "DestinationHost": "@h",
    "KeyPairId": "@key",
    "SecurityGroupRuleId": "@sgr",
    "MigrationId": "@m",
    "AccessKeyId": "@AKIA",
    "Resource": "@i",
}


@dataclass
class Known:
    """Ids that answers have named, the newest of each kind."""

    ids: Mapping[str, deque[str]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=40)))
    turn: int = 0

    def learn(self, answer: str) -> None:
        for found in _ID.finditer(answer):
            kind = "@" + (found[1] or "AKIA")
            if found[0] not in self.ids[kind]:
                self.ids[kind].append(found[0])

    def fill(self, form: Form) -> Form:
        """The form with marks as ids, each time another one."""
        return [(name, self._id(value) if value in MARKS else value) for name, value in form]

    def _id(self, mark: str) -> str:
        known = self.ids[mark]
        self.turn += 1
        return known[self.turn % len(known)] if known else mark


_INDEXES = ("0", "2", "7", "999999", "1000000", "01", "-1", "x", "")
_ODD = ("", ".1", ".1.1", ".Value", ".member.1", ".x")
_NAMES = (
    "DryRun",
    "Filter",
    "Filter.1",
    "a.b.c",
    "." * 30,
    "MaxResults",
    "NextToken",
    "",
    "Filter.1.Value.1",
)
_SMALL_COUNTS = frozenset({"MinCount", "MaxCount"})
_NUMBERS = frozenset({"integer", "long", "float", "double"})
_WORDS = ("web", "1", "true", "x*", "running", "10.0.0.0/8")
_PLAIN = {"boolean": ("true", "false"), "timestamp": ("2026-01-02T03:04:05Z",)}
_RANGES = ((0x20, 0x7E), (0xA0, 0x2FF), (0x370, 0x52F), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0x0, 0x1F))


def bad_text(chance: Chance) -> str:
    """Something that is not what was asked for."""
    kind = chance.share()
    if kind < 0.6:
        return chance.of(BAD_TEXTS)
    if kind < 0.75:
        return chance.of(MARKS)
    low, high = chance.of(_RANGES)
    return "".join(chr(low + chance.below(high - low + 1)) for _ in range(chance.below(20)))


def bad(chance: Chance) -> str:
    """A wrong value of any kind."""
    return chance.of((bad_text(chance), chance.of(BAD_NUMBERS), chance.of(BAD_TIMES), bad_text(chance)))


class FormWriter:
    """Writes forms for one action, its own name and version left out."""

    def __init__(self, model: Model, action: Action) -> None:
        self._shape = model.input(action.name)
        self._below = accepted(action.accepts)
        self._needed = ESSENTIAL.get(action.name, set())
        self._filters = tuple(each + "Name" if each == "tag:" else each for each in action.filters or ())
        self._ec2 = model.protocol == "ec2"

    def draw(self, chance: Chance) -> Form:
        """A third are as they should be but for at most one value, a third have more wrong ones, a third are full."""
        if self._shape is None:
            return []
        full, wrong = chance.of(((1, 0), (2, 0), (2, 1), (4, 1), (9, 3)))
        form: Form = []
        self._structure(_Draw(chance, full, wrong, form), self._shape, self._below, "")
        if form and chance.share() < 0.5:
            at = chance.below(len(form))
            form[at] = (form[at][0], bad(chance))
        if chance.share() < 0.03:
            form += [(chance.of(_NAMES), bad_text(chance)) for _ in range(1 + chance.below(2))]
        return form

    def _structure(self, d: _Draw, shape: Shape, below: Accepted, prefix: str) -> None:
        for name, member in shape.members.items() if prefix.count(".") < 9 else ():
            if (below is not None and name not in below) or not self._wanted(d, shape, name):
                continue
            own = member.location or name
            if self._ec2:
                own = member.traits.get("queryName") or own[0].upper() + own[1:]
            self._member(d, member, below and below[name], prefix + own, name)

    def _wanted(self, d: _Draw, shape: Shape, name: str) -> bool:
        share = d.chance.share()
        if name == "DryRun":
            return share < 1 / 40
        if name in shape.required or name in self._needed:
            return share > 1 / 20
        return share * 10 < d.full

    def _member(self, d: _Draw, shape: Shape, below: Accepted, path: str, name: str) -> None:
        chance = d.chance
        if d.wrong and chance.share() < 1 / 60:  # another kind of thing altogether
            d.form.append((path + chance.of(_ODD), bad_text(chance)))
        elif shape.type == "structure":
            self._structure(d, shape, below, path + ".")
        elif shape.type == "list":
            inner = "" if self._ec2 or shape.flattened else "." + (shape.element.location or "member")
            for index in range(1, 1 + chance.of((1, 1, 1, 2, 3))):
                odd = d.wrong and chance.share() < 1 / 60
                at = chance.of(_INDEXES) if odd else str(index)
                self._member(d, shape.element, below, f"{path}{inner}.{at}", name)
        elif shape.type == "map":
            d.form.append((path + ".1.key", bad_text(chance)))
        else:
            d.form.append((path, self._scalar(d, shape, path, name)))

    def _scalar(self, d: _Draw, shape: Shape, path: str, name: str) -> str:
        chance = d.chance
        if chance.share() * 20 < d.wrong:
            return _wrong(chance, shape.type)
        if self._filters and path.startswith("Filter.") and path.endswith(".Name"):
            return chance.of(self._filters)
        return _right(chance, shape, name)


@dataclass(slots=True)
class _Draw:
    """One form on its way.

    Attributes:
        full: how many of ten optional members are there.
        wrong: how many of twenty values are not plausible.
    """

    chance: Chance
    full: int
    wrong: int
    form: Form


def _wrong(chance: Chance, kind: str) -> str:
    if kind in _NUMBERS:
        return chance.of(BAD_NUMBERS)
    return chance.of(BAD_TIMES) if kind == "timestamp" else bad_text(chance)


def _right(chance: Chance, shape: Shape, name: str) -> str:
    """A plausible value."""
    if shape.type in _NUMBERS:
        return str(1 + chance.below(4) if name in _SMALL_COUNTS else chance.below(11))
    if shape.type == "blob" and name != "PublicKeyMaterial":
        return b64encode(chance.bytes(chance.below(40))).decode()
    if shape.type in _PLAIN:
        return chance.of(_PLAIN[shape.type])
    enum = tuple(shape.traits.get("enum", ()))
    singular = name.removesuffix("s")
    if singular in TEXTS:
        return chance.of(TEXTS[singular])
    if enum:
        return str(chance.of(enum))
    return MARK_OF.get(singular) or chance.of((chance.of(MARKS), chance.of(_WORDS)))
