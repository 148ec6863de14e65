"""Forms that have the right shape and wrong values: what a careless or hostile client sends.

A form is drawn along the model's shape of an action's input. Most values are plausible, so that
handlers are reached; the others are what handlers were not thought for. Ids of what there is are drawn as
marks (`@i`) and put in when the form is sent.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from hypothesis import strategies as st

from mallee.aws.actions import Action
from mallee.aws.model import Model, Shape
from mallee.aws.protocol.reader import Accepted, accepted

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


def forms(model: Model, action: Action) -> st.SearchStrategy[Form]:
    """Forms for one action, its own name and version left out.

    A third are as they should be but for at most one value, a third have more wrong ones, and a third are full.
    """
    shape = model.input(action.name)
    if shape is None:
        return st.just([])
    below = accepted(action.accepts)
    needed = ESSENTIAL.get(action.name, set())

    @st.composite
    def drawn(draw: st.DrawFn) -> Form:
        full, wrong = draw(st.sampled_from(((1, 0), (2, 0), (2, 1), (4, 1), (9, 3))))
        writer = _Writer(draw, model.protocol == "ec2", tuple(action.filters or ()), needed, full, wrong)
        form = list(writer.structure(shape, below, ""))
        if form and draw(_half):
            at = draw(st.integers(0, len(form) - 1))
            form[at] = (form[at][0], draw(_BAD))
        return form + draw(_MESS) if draw(st.integers(0, 29)) == 0 else form

    return drawn()


_half = st.booleans()
_bad_text = st.one_of(
    st.sampled_from(BAD_TEXTS),
    st.sampled_from(MARKS),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
)
_BAD = st.one_of(_bad_text, st.sampled_from(BAD_NUMBERS), st.sampled_from(BAD_TIMES))
_INDEX = st.sampled_from(("0", "2", "7", "999999", "1000000", "01", "-1", "x", ""))
_ODD = st.sampled_from(("", ".1", ".1.1", ".Value", ".member.1", ".x"))
_MESS = st.lists(
    st.tuples(
        st.sampled_from(("DryRun", "Filter", "Filter.1", "a.b.c", "." * 30, "MaxResults", "NextToken", "")),
        _bad_text,
    ),
    max_size=2,
    unique_by=lambda pair: pair[0],
)


@dataclass
class _Writer:
    """Writes one form.

    Attributes:
        full: how many of ten optional members are there.
        wrong: how many of twenty values are not plausible.
    """

    draw: st.DrawFn
    ec2: bool
    filters: tuple[str, ...]
    needed: set[str]
    full: int
    wrong: int

    def structure(self, shape: Shape, below: Accepted, prefix: str) -> Iterator[tuple[str, str]]:
        for name, member in shape.members.items() if prefix.count(".") < 9 else ():
            if (below is not None and name not in below) or not self._wanted(shape, name):
                continue
            own = member.location or name
            if self.ec2:
                own = member.traits.get("queryName") or own[0].upper() + own[1:]
            yield from self._member(member, below and below[name], prefix + own, name)

    def _wanted(self, shape: Shape, name: str) -> bool:
        if name == "DryRun":
            return self._one_in(40)
        if name in shape.required or name in self.needed:
            return not self._one_in(20)
        return self.draw(st.integers(0, 9)) < self.full

    def _member(self, shape: Shape, below: Accepted, path: str, name: str) -> Iterator[tuple[str, str]]:
        if self.wrong and self._one_in(60):  # another kind of thing altogether
            yield path + self.draw(_ODD), self.draw(_bad_text)
        elif shape.type == "structure":
            yield from self.structure(shape, below, path + ".")
        elif shape.type == "list":
            inner = "" if self.ec2 or shape.flattened else "." + (shape.element.location or "member")
            for index in range(1, 1 + self.draw(st.sampled_from((1, 1, 1, 2, 3)))):
                at = self.draw(_INDEX) if self.wrong and self._one_in(60) else str(index)
                yield from self._member(shape.element, below, f"{path}{inner}.{at}", name)
        elif shape.type == "map":
            yield path + ".1.key", self.draw(_bad_text)
        else:
            yield path, self.draw(self._scalar(shape, path, name))

    def _scalar(self, shape: Shape, path: str, name: str) -> st.SearchStrategy[str]:
        good, bad = _values(shape.type, tuple(shape.traits.get("enum", ())), name)
        if path.startswith("Filter.") and path.endswith(".Name") and self.filters:
            good = st.sampled_from([each + "Name" if each == "tag:" else each for each in self.filters])
        return bad if self.draw(st.integers(0, 19)) < self.wrong else good

    def _one_in(self, number: int) -> bool:
        return self.draw(st.integers(0, number - 1)) == 0


@cache
def _values(
    kind: str, enum: tuple[str, ...], name: str
) -> tuple[st.SearchStrategy[str], st.SearchStrategy[str]]:
    """Plausible ones, and others."""
    match kind:
        case "integer" | "long" | "float" | "double":
            small = st.integers(1, 4) if name in {"MinCount", "MaxCount"} else st.integers(0, 10)
            return small.map(str), st.sampled_from(BAD_NUMBERS)
        case "boolean":
            return st.sampled_from(("true", "false")), _bad_text
        case "timestamp":
            return st.just("2026-01-02T03:04:05Z"), st.sampled_from(BAD_TIMES)
        case "blob" if name != "PublicKeyMaterial":
            return st.binary(max_size=40).map(lambda raw: b64encode(raw).decode()), _bad_text
    return _good_text(enum, name.removesuffix("s")), _bad_text


def _good_text(enum: tuple[str, ...], name: str) -> st.SearchStrategy[str]:
    if name in TEXTS:
        return st.sampled_from(TEXTS[name])
    if enum:
        return st.sampled_from(enum)
    if name in MARK_OF:
        return st.just(MARK_OF[name])
    return st.one_of(
        st.sampled_from(MARKS), st.sampled_from(("web", "1", "true", "x*", "running", "10.0.0.0/8"))
    )
