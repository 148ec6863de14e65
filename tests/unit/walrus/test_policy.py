"""Bucket policies: what they say, what cannot be said, and that two evaluators agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mallee.aws.context import Principal
from mallee.walrus.access.patterns import matcher
from mallee.walrus.access.policy import Decision, Who, read
from mallee.walrus.access.public import is_public
from mallee.walrus.errors import S3Error
from mallee.walrus.identity import canonical_id
from tests.unit.walrus import naive_policy

A, B = "111111111111", "222222222222"
ARN = "arn:aws:s3:::"


def root(account: str) -> Who:
    arn = f"arn:aws:iam::{account}:root"
    return Who(Principal(account, arn, account, "AKIA", is_root=True), canonical_id(account))


def user(account: str, name: str) -> Who:
    return Who(
        Principal(account, f"arn:aws:iam::{account}:user/{name}", "AIDA", "AKIA"), canonical_id(account)
    )


ANYBODY = Who(None)


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> bytes:
    return json.dumps({"Version": version, "Statement": list(statements)}).encode()


def allow(**more: Any) -> dict[str, Any]:
    basis = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{ARN}b/*"}
    return {name: value for name, value in (basis | more).items() if value is not None}


def judge(
    document: bytes, who: Who, action: str = "s3:GetObject", key: str | None = "k", **facts: Any
) -> Decision:
    known = {
        name.replace("__", ":").replace("_", "-"): value if isinstance(value, tuple) else (value,)
        for name, value in facts.items()
    }
    resource = f"{ARN}b" if key is None else f"{ARN}b/{key}"
    return read(document, "b").judge(who, action, resource, known.get)


def test_principals() -> None:
    by_account = policy(allow(Principal={"AWS": A}))
    assert judge(by_account, root(A)) is Decision.ALLOWED
    assert judge(by_account, user(A, "ada")) is Decision.DELEGATED
    assert judge(by_account, root(B)) is Decision.SILENT
    assert judge(by_account, ANYBODY) is Decision.SILENT
    by_name = policy(allow(Principal={"AWS": [f"arn:aws:iam::{A}:user/ada"]}))
    assert judge(by_name, user(A, "ada")) is Decision.ALLOWED
    assert judge(by_name, user(A, "bob")) is Decision.SILENT
    assert judge(policy(allow(Principal={"CanonicalUser": canonical_id(B)})), root(B)) is Decision.ALLOWED
    everybody = policy(allow(Principal={"AWS": "*"}))
    assert judge(everybody, ANYBODY) is Decision.ALLOWED
    all_but = policy(allow(Effect="Deny", Principal=None, NotPrincipal={"AWS": f"arn:aws:iam::{A}:user/ada"}))
    assert judge(all_but, user(A, "ada")) is Decision.SILENT
    assert judge(all_but, ANYBODY) is Decision.DENIED


def test_a_deny_wins_whatever_the_order() -> None:
    deny = allow(Effect="Deny", Action="s3:*", Resource=[f"{ARN}b", f"{ARN}b/secret/*"])
    for statements in ([allow(), deny], [deny, allow()]):
        assert judge(policy(*statements), root(A), key="secret/x") is Decision.DENIED
        assert judge(policy(*statements), root(A), key="open") is Decision.ALLOWED


def test_actions_and_resources() -> None:
    document = policy(allow(Action=["s3:Get*", "s3:ListBucket"], Resource=[f"{ARN}b", f"{ARN}b/a/?/*.txt"]))
    assert judge(document, ANYBODY, key="a/b/c/d.txt") is Decision.ALLOWED
    assert judge(document, ANYBODY, key="a/bb/d.txt") is Decision.SILENT
    assert judge(document, ANYBODY, "s3:GETOBJECTACL", key="a/b/.txt") is Decision.ALLOWED
    assert judge(document, ANYBODY, "s3:ListBucket", key=None) is Decision.ALLOWED
    assert judge(document, ANYBODY, "s3:PutObject", key="a/b/x.txt") is Decision.SILENT
    rest = policy(
        allow(Effect="Deny", Action=None, NotAction="s3:Get*", Resource=None, NotResource=f"{ARN}b/open/*")
    )
    assert judge(rest, ANYBODY, "s3:PutObject", key="x") is Decision.DENIED
    assert judge(rest, ANYBODY, "s3:PutObject", key="open/x") is Decision.SILENT
    assert judge(rest, ANYBODY, "s3:GetObject", key="x") is Decision.SILENT


@pytest.mark.parametrize(
    ("condition", "facts", "holds"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws__sourceip": "10.1.2.3"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws__sourceip": "::ffff:10.1.2.3"}, True),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}, {"aws__sourceip": "2001:db8::1"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws__sourceip": "11.0.0.1"}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws__sourceip": "11.0.0.1"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws__sourceip": "nonsense"}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws__securetransport": "false"}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws__securetransport": "true"}, False),
        ({"StringLike": {"s3:prefix": ["home/", "home/ada/*"]}}, {"s3__prefix": "home/ada/x"}, True),
        ({"StringLike": {"s3:prefix": ["home/", "home/ada/*"]}}, {"s3__prefix": "home/bob/x"}, False),
        ({"StringEquals": {"S3:PREFIX": "a"}}, {"s3__prefix": "a"}, True),
        ({"StringEquals": {"s3:x-amz-acl": "private"}}, {}, False),
        ({"StringNotEquals": {"s3:x-amz-acl": "private"}}, {}, True),
        ({"StringEqualsIfExists": {"s3:x-amz-acl": "private"}}, {}, True),
        ({"StringEqualsIfExists": {"s3:x-amz-acl": "private"}}, {"s3__x_amz_acl": "public-read"}, False),
        ({"Null": {"s3:x-amz-server-side-encryption": "true"}}, {}, True),
        ({"Null": {"s3:x-amz-server-side-encryption": True}}, {"s3__x_amz_server_side_encryption": "AES256"}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3__max_keys": "10"}, True),
        ({"NumericLessThanEquals": {"s3:max-keys": 10}}, {"s3__max_keys": "11"}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": 10}}, {"s3__max_keys": "many"}, False),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}, {"aws__currenttime": "2026-01-02T00:00:00+00:00"}, True),
        ({"DateLessThan": {"aws:EpochTime": "1000"}}, {"aws__epochtime": "999"}, True),
        ({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}}, {"s3__requestobjecttagkeys": ("a", "b")}, True),
        ({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}}, {"s3__requestobjecttagkeys": ("a", "c")}, False),
        ({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}}, {}, True),
        ({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}}, {"s3__requestobjecttagkeys": ("a", "c")}, True),
        ({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}}, {}, False),
        ({"StringEquals": {"s3:ExistingObjectTag/Class": "open"}}, {"s3__existingobjecttag/Class": "open"}, True),
        ({"StringEquals": {"s3:ExistingObjectTag/Class": "open"}}, {"s3__existingobjecttag/class": "open"}, False),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/a*"}}, {"aws__principalarn": f"arn:aws:iam::{A}:user/ada"}, True),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:*:user/a*"}}, {"aws__principalarn": f"arn:aws:iam::{A}:user/ada"}, False),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}}, {}, False),
    ],
)  # fmt: skip
def test_conditions(condition: dict[str, Any], facts: dict[str, Any], holds: bool) -> None:
    said = judge(policy(allow(Condition=condition)), ANYBODY, **facts)
    assert said is (Decision.ALLOWED if holds else Decision.SILENT)


def test_variables() -> None:
    homes = policy(allow(Resource=f"{ARN}b/home/${{aws:username}}/*"))
    ada = {"aws__username": "ada"}
    assert judge(homes, user(A, "ada"), key="home/ada/x", **ada) is Decision.ALLOWED
    assert judge(homes, user(A, "ada"), key="home/bob/x", **ada) is Decision.SILENT
    assert judge(homes, ANYBODY, key="home//x") is Decision.SILENT
    assert judge(homes, user(A, "*"), key="home/bob/x", aws__username="*") is Decision.SILENT
    assert judge(homes, user(A, "*"), key="home/*/x", aws__username="*") is Decision.ALLOWED
    assert judge(policy(allow(Resource=f"{ARN}b/a${{*}}b"))  , ANYBODY, key="a*b") is Decision.ALLOWED  # fmt: skip
    assert judge(policy(allow(Resource=f"{ARN}b/a${{*}}b")), ANYBODY, key="axb") is Decision.SILENT
    other = policy(allow(Resource=f"{ARN}b/${{aws:username, 'nobody'}}"))
    assert judge(other, ANYBODY, key="nobody") is Decision.ALLOWED
    old = policy(allow(Resource=f"{ARN}b/${{aws:username}}"), version="2008-10-17")
    assert judge(old, ANYBODY, key="${aws:username}") is Decision.ALLOWED
    assert judge(old, user(A, "ada"), key="ada", **ada) is Decision.SILENT


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"{}",
        b"[" * 10_000,
        b'{"Statement": []}',
        b'{"Statement": [1]}',
        b'{"Version": "2020-01-01", "Statement": []}',
        policy(allow(Effect="allow")),
        policy(allow(Principal=None)),
        policy(allow(NotPrincipal="*")),
        policy(allow(Principal={"AWS": "ada"})),
        policy(allow(Principal={"AWS": f"arn:aws:iam::{A}:user/*"})),
        policy(allow(Principal={"Nobody": "x"})),
        policy(allow(Principal={})),
        policy(allow(Principal={"AWS": []})),
        policy(allow(Action="ec2:RunInstances")),
        policy(allow(Action="GetObject")),
        policy(allow(Action=[])),
        policy(allow(Action=7)),
        policy(allow(Resource="arn:aws:s3:::other/*")),
        policy(allow(Resource="arn:aws:s3:::${aws:username}/*")),
        policy(allow(Resource="b/*")),
        policy(allow(Resource=f"{ARN}b")),
        policy(allow(Action="s3:ListBucket")),
        policy(allow(Colour="red")),
        policy(allow(Condition={"StringIs": {"s3:prefix": "a"}})),
        policy(allow(Condition={"StringEquals": {"s3:colour": "a"}})),
        policy(allow(Condition={"StringEquals": {"aws:PrincipalTag/team": "a"}})),
        policy(allow(Condition={"StringEquals": "a"})),
        policy(allow(Condition={"StringEquals": {"s3:prefix": {"a": "b"}}})),
        policy(allow(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/99"}})),
        policy(allow(Condition={"NumericEquals": {"s3:max-keys": "ten"}})),
        policy(allow(Condition={"DateEquals": {"aws:CurrentTime": "tomorrow"}})),
        policy(allow(Condition={"Bool": {"aws:SecureTransport": "perhaps"}})),
        policy(allow(Condition={"NullIfExists": {"s3:prefix": "true"}})),
        policy(allow(Condition={"ForSomeValues:StringEquals": {"s3:prefix": "a"}})),
        b" " * 30_000,
    ],
    ids=lambda document: document[:90].decode("latin-1"),
)
def test_what_cannot_be_a_policy(document: bytes) -> None:
    with pytest.raises(S3Error) as refused:
        read(document, "b")
    assert refused.value.code == "MalformedPolicy"


@pytest.mark.parametrize(
    ("statement", "public"),
    [
        (allow(), True),
        (allow(Effect="Deny"), False),
        (allow(Principal={"AWS": A}), False),
        (allow(Principal=None, NotPrincipal={"AWS": A}), True),
        (allow(Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}), False),
        (allow(Condition={"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "0.0.0.0/0"]}}), True),
        (allow(Condition={"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}), True),
        (allow(Condition={"StringEquals": {"aws:PrincipalAccount": A}}), False),
        (allow(Condition={"StringLike": {"aws:PrincipalAccount": "*"}}), True),
        (allow(Condition={"StringEqualsIfExists": {"aws:PrincipalAccount": A}}), True),
        (allow(Condition={"Bool": {"aws:SecureTransport": "true"}}), True),
    ],
)
def test_what_is_public(statement: dict[str, Any], public: bool) -> None:
    assert is_public(read(policy(statement), "b")) is public


_texts = st.text("ab/*?", max_size=6)


@given(pattern=st.text("ab?*", max_size=8), text=st.text("ab", max_size=8))
@settings(max_examples=400, deadline=None)
def test_wildcards_are_what_they_are_by_definition(pattern: str, text: str) -> None:
    assert matcher(pattern)(text) == naive_policy._glob(pattern, text)


def test_no_pattern_takes_long() -> None:
    assert not matcher("*a" * 500 + "b")("a" * 1024)
    assert not matcher("?*" * 500 + "b")("a" * 1024)


_names = st.sampled_from(
    [A, B, f"arn:aws:iam::{A}:root", f"arn:aws:iam::{A}:user/ada", f"arn:aws:iam::{B}:user/bob", "*"]
)
_principals = st.one_of(
    st.just("*"),
    st.fixed_dictionaries({"AWS": st.one_of(_names, st.lists(_names, min_size=1, max_size=2))}),
    st.fixed_dictionaries({"CanonicalUser": st.sampled_from([canonical_id(A), canonical_id(B)])}),
)
_actions = st.lists(
    st.sampled_from(["s3:GetObject", "s3:Get*", "s3:*", "*", "s3:PutObject", "s3:getobject?cl"]),
    min_size=1,
    max_size=2,
)
_resources = st.lists(
    st.text("ab/*?", max_size=4).map(lambda rest: f"{ARN}b/{rest}") | st.just(f"{ARN}b*"),
    min_size=1,
    max_size=2,
)
_words = st.lists(st.sampled_from(["a", "A", "a/b", "a*", "?", ""]), min_size=1, max_size=2)
_numbers = st.lists(st.sampled_from(["1", "10", "2.5"]), min_size=1, max_size=2)
_nets = st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"]), min_size=1, max_size=2)
_quantified = st.sampled_from(["", "ForAllValues:", "ForAnyValue:"])


def _one_condition(draw: Any) -> tuple[str, dict[str, Any]]:
    suffix = draw(st.sampled_from(["", "IfExists"]))
    kind = draw(st.sampled_from(["text", "number", "net", "bool", "null", "many"]))
    if kind == "text":
        word = draw(st.sampled_from(["Equals", "NotEquals", "EqualsIgnoreCase", "Like", "NotLike"]))
        return f"String{word}{suffix}", {"s3:prefix": draw(_words)}
    if kind == "number":
        word = draw(st.sampled_from(["Equals", "NotEquals", "LessThan", "GreaterThanEquals"]))
        return f"Numeric{word}{suffix}", {"s3:max-keys": draw(_numbers)}
    if kind == "net":
        return draw(st.sampled_from(["IpAddress", "NotIpAddress"])) + suffix, {"aws:SourceIp": draw(_nets)}
    if kind == "bool":
        return f"Bool{suffix}", {"aws:SecureTransport": draw(st.sampled_from(["true", "false"]))}
    if kind == "null":
        return "Null", {"s3:prefix": draw(st.sampled_from(["true", "false"]))}
    word = draw(st.sampled_from(["ForAllValues:", "ForAnyValue:"])) + draw(
        st.sampled_from(["StringEquals", "StringNotEquals", "StringLike"])
    )
    return word, {"s3:RequestObjectTagKeys": draw(_words)}


@st.composite
def _statements(draw: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Deny"]))}
    for name, values in (("Principal", _principals), ("Action", _actions), ("Resource", _resources)):
        made[draw(st.sampled_from([name, name, f"Not{name}"]))] = draw(values)
    conditions = dict(_one_condition(draw) for _ in range(draw(st.integers(0, 2))))
    return made | ({"Condition": conditions} if conditions else {})


_facts = st.fixed_dictionaries(
    {},
    optional={
        "s3:prefix": st.sampled_from(["a", "A", "a/b", "ab", "x"]).map(lambda v: (v,)),
        "s3:max-keys": st.sampled_from(["1", "10", "3"]).map(lambda v: (v,)),
        "aws:sourceip": st.sampled_from(["10.1.2.3", "10.9.9.9", "192.0.2.1"]).map(lambda v: (v,)),
        "aws:securetransport": st.sampled_from(["true", "false"]).map(lambda v: (v,)),
        "s3:requestobjecttagkeys": st.lists(st.sampled_from(["a", "A", "b"]), min_size=1, max_size=2).map(
            tuple
        ),
    },
)
_callers = st.sampled_from([None, root(A), root(B), user(A, "ada"), user(A, "bob"), user(B, "bob")])
_SAID = {
    Decision.SILENT: "",
    Decision.DELEGATED: "delegate",
    Decision.ALLOWED: "allow",
    Decision.DENIED: "deny",
}


@pytest.mark.slow
@given(
    statements=st.lists(_statements(), min_size=1, max_size=3),
    who=_callers,
    action=st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:GetObjectAcl"]),
    key=st.text("ab/", max_size=4),
    facts=_facts,
)
@settings(max_examples=1500, deadline=None)
def test_two_evaluators_agree(
    statements: list[dict[str, Any]],
    who: Who | None,
    action: str,
    key: str,
    facts: dict[str, tuple[str, ...]],
) -> None:
    document = {"Version": "2012-10-17", "Statement": statements}
    try:
        compiled = read(json.dumps(document).encode(), "b")
    except S3Error as error:
        if "does not apply" in error.message:
            return
        raise
    caller = who or ANYBODY
    signer = caller.principal
    named = signer and {"account": signer.account_id, "arn": signer.arn, "canonical": caller.canonical}
    expected = naive_policy.verdict(document, named, action, f"{ARN}b/{key}", facts)
    assert _SAID[compiled.judge(caller, action, f"{ARN}b/{key}", facts.get)] == expected
