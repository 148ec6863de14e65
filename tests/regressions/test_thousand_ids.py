"""The documented most of a list, 1,000 instances or 1,000 resources with 50 tags each, must fit into one request with all that stands beside it."""

from __future__ import annotations

import pytest

from mallee.aws.errors import MalformedQueryString
from mallee.aws.protocol import decode


def test_a_request_can_name_a_thousand_instances() -> None:
    ids = "&".join(f"InstanceId.{number}=i-{number:017x}" for number in range(1, 1001))
    assert len(decode(f"Action=TerminateInstances&Version=2016-11-15&{ids}&DryRun=true".encode())) == 1003


def test_a_thousand_resources_get_fifty_tags_at_once() -> None:
    ids = "&".join(f"ResourceId.{number}=i-{number:017x}" for number in range(1, 1001))
    tags = "&".join(f"Tag.{number}.Key=k{number}&Tag.{number}.Value=v" for number in range(1, 51))
    assert len(decode(f"Action=CreateTags&Version=2016-11-15&DryRun=true&{ids}&{tags}".encode())) == 1103


def test_there_is_a_bound_all_the_same() -> None:
    with pytest.raises(MalformedQueryString):
        decode("&".join(f"a{number}=1" for number in range(1300)).encode())
