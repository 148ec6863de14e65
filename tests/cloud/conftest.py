"""What tests of the object store may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.clouds import TestCloud


@pytest.fixture
def s3(shared_cloud: TestCloud) -> Any:
    """A boto3 client of the first account, through the one door."""
    return shared_cloud.client("s3")


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket of this test's own, gone afterwards with all that is in it."""
    name = f"b-{abs(hash(request.node.nodeid)):x}"
    s3.create_bucket(Bucket=name)
    yield name
    empty(s3, name)


def empty(s3: Any, name: str) -> None:
    """Remove a bucket, whatever it holds."""
    try:
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=name)
        for page in pages:
            for one in page.get("Versions", []) + page.get("DeleteMarkers", []):
                s3.delete_object(
                    Bucket=name, Key=one["Key"], VersionId=one["VersionId"], BypassGovernanceRetention=True
                )
        s3.delete_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


class Refused(AbstractContextManager["Refused"]):
    """The block is refused with this code (and status)."""

    def __init__(self, code: str, status: int | None = None) -> None:
        self.code = code
        self.status = status
        self.response: dict[str, Any] = {}

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        assert isinstance(error, ClientError), f"not refused, though {self.code} was expected: {error!r}"
        self.response = error.response
        assert error.response["Error"]["Code"] == self.code, error
        answered = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert self.status in {None, answered}, answered
        return True


def refused(code: str, status: int | None = None) -> Refused:
    return Refused(code, status)
