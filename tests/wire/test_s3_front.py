"""The object store's front on a socket, spoken to by boto3."""

import asyncio
import os

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from s3_house import KEY, SECRET, House


@pytest.fixture
async def house():
    async with House().open() as opened:
        yield opened


def client(house, **config):
    return boto3.client(
        "s3",
        endpoint_url=house.url,
        region_name="mallee-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(
            s3={"addressing_style": "path", **config.pop("s3", {})}, retries={"max_attempts": 1}, **config
        ),
    )


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 5_000_001])
async def test_what_is_put_is_got(house, size) -> None:
    s3, body = client(house), os.urandom(size)

    def talk() -> None:
        put = s3.put_object(Bucket="bucket", Key="a/../b c+ä", Body=body, Metadata={"Colour": "red"})
        assert put["ChecksumCRC32"]
        got = s3.get_object(Bucket="bucket", Key="a/../b c+ä")
        assert got["Body"].read() == body
        assert got["Metadata"] == {"colour": "red"}
        assert got["ETag"] == put["ETag"]
        assert s3.head_object(Bucket="bucket", Key="a/../b c+ä")["ContentLength"] == size
        found = s3.list_objects_v2(Bucket="bucket")["Contents"]
        assert [one["Key"] for one in found] == ["a/../b c+ä"]

    await asyncio.to_thread(talk)


async def test_a_missing_key_is_s3s_own_error(house) -> None:
    s3 = client(house)

    def talk() -> None:
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket="bucket", Key="none")
        assert caught.value.response["Error"]["Code"] == "NoSuchKey"
        assert caught.value.response["Error"]["Key"] == "none"
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket="bucket", Key="none")

    await asyncio.to_thread(talk)
