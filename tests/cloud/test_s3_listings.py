"""Listings as boto3 walks them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cloud.clouds import TestCloud
from tests.cloud.conftest import refused

KEYS = sorted(["a", "a/1", "a/2", "a/b/3", "b", "c/4", "c/5", "ä", "z z", "~"], key=str.encode)


@pytest.fixture
def filled(s3: Any, bucket: str) -> str:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def keys(page: Any) -> list[str]:
    return [one["Key"] for one in page.get("Contents", [])]


def prefixes(page: Any) -> list[str]:
    return [one["Prefix"] for one in page.get("CommonPrefixes", [])]


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_every_key_once_in_the_order_of_their_bytes(s3: Any, filled: str, operation: str, size: int) -> None:
    pages = s3.get_paginator(operation).paginate(Bucket=filled, PaginationConfig={"PageSize": size})
    assert [key for page in pages for key in keys(page)] == KEYS


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_folders(s3: Any, filled: str, operation: str, size: int) -> None:
    pages = list(
        s3.get_paginator(operation).paginate(
            Bucket=filled, Delimiter="/", PaginationConfig={"PageSize": size}
        )
    )
    assert [key for page in pages for key in keys(page)] == [key for key in KEYS if "/" not in key]
    assert [prefix for page in pages for prefix in prefixes(page)] == ["a/", "c/"]
    inside = getattr(s3, operation)(Bucket=filled, Delimiter="/", Prefix="a/")
    assert (keys(inside), prefixes(inside)) == (["a/1", "a/2"], ["a/b/"])


def test_from_behind_a_key(s3: Any, filled: str) -> None:
    assert keys(s3.list_objects_v2(Bucket=filled, StartAfter="b")) == [
        key for key in KEYS if key.encode() > b"b"
    ]
    assert keys(s3.list_objects(Bucket=filled, Marker="b")) == [key for key in KEYS if key.encode() > b"b"]
    assert keys(s3.list_objects_v2(Bucket=filled, StartAfter="zzz", Prefix="a")) == []


def test_what_a_listing_says(s3: Any, filled: str, shared_cloud: TestCloud) -> None:
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=2, FetchOwner=True)
    one = page["Contents"][0]
    assert (page["KeyCount"], page["MaxKeys"], page["IsTruncated"]) == (2, 2, True)
    assert (one["Size"], one["StorageClass"], one["ChecksumAlgorithm"]) == (1, "STANDARD", ["CRC32"])
    assert one["ETag"] == s3.head_object(Bucket=filled, Key=one["Key"])["ETag"]
    assert len(one["Owner"]["ID"]) == 64
    assert "Owner" not in s3.list_objects_v2(Bucket=filled)["Contents"][0]
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=0)["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=filled, ContinuationToken="forged")
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=filled, EncodingType="base64")


def test_keys_that_xml_cannot_carry(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a\x01b", Body=b"x")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["a\x01b"]  # boto3 asks for encoding-type=url
    versions = s3.list_object_versions(Bucket=bucket)
    assert [one["Key"] for one in versions["Versions"]] == ["a\x01b"]
