"""The object store by clients that know nothing of it: aws-cli, the minio client, rclone, s3cmd."""

from __future__ import annotations

import filecmp
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.cloud.clouds import TestCloud

MIB = 1 << 20
DEBIANS = Path("/usr/bin")  # where the packages' programs are; the environment's own rclone is for benches


def run(environment: dict[str, str], *words: str, code: int = 0) -> str:
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with what people keep: many small files, a large one, an empty one, odd names."""
    root = tmp_path / "tree"
    for name, size in (
        ("a.txt", 10), ("empty", 0), ("deep/er/still/b.bin", 70_000), ("ä ö+&=.txt", 5), ("deep/big", 9 * MIB),
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    for number in range(20):
        (root / f"many-{number}").write_bytes(os.urandom(1000))
    return root


def same(one: Path, two: Path) -> bool:
    """Whether two folders hold the same files."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(two)) for path in two.rglob("*") if path.is_file())
    return filecmp.cmpfiles(one, two, names, shallow=False)[1:] == ([], [])


def aws(cloud: TestCloud, *words: str, code: int = 0) -> str:
    """aws-cli, with one AWS_ENDPOINT_URL for everything."""
    return run(cloud.environment(), str(Path(sys.executable).with_name("aws")), *words, code=code)


class TestAwsCli:
    """aws-cli, as users use it for objects."""

    def test_sync_both_ways(self, shared_cloud: TestCloud, bucket: str, tree: Path, tmp_path: Path) -> None:
        aws(shared_cloud, "s3", "sync", "--no-progress", str(tree), f"s3://{bucket}/copy")
        assert aws(shared_cloud, "s3", "sync", "--no-progress", str(tree), f"s3://{bucket}/copy") == ""
        aws(shared_cloud, "s3", "sync", "--no-progress", f"s3://{bucket}/copy", str(tmp_path / "back"))
        assert same(tree, tmp_path / "back")
        (tree / "a.txt").unlink()
        aws(shared_cloud, "s3", "sync", "--delete", "--no-progress", str(tree), f"s3://{bucket}/copy")
        listed = aws(shared_cloud, "s3", "ls", "--recursive", f"s3://{bucket}/copy/")
        assert len(listed.splitlines()) == 24
        aws(shared_cloud, "s3", "rm", "--recursive", f"s3://{bucket}")

    def test_a_hundred_megabytes(self, shared_cloud: TestCloud, bucket: str, tmp_path: Path) -> None:
        large = tmp_path / "large"
        large.write_bytes(os.urandom(MIB) * 100)
        aws(shared_cloud, "s3", "cp", "--no-progress", str(large), f"s3://{bucket}/large")
        aws(shared_cloud, "s3", "cp", "--no-progress", f"s3://{bucket}/large", f"s3://{bucket}/again")
        aws(shared_cloud, "s3", "cp", "--no-progress", f"s3://{bucket}/again", str(tmp_path / "back"))
        assert filecmp.cmp(large, tmp_path / "back", shallow=False)
        head = json.loads(aws(shared_cloud, "s3api", "head-object", "--bucket", bucket, "--key", "large"))
        assert head["ContentLength"] == 100 * MIB

    def test_presign(self, shared_cloud: TestCloud, bucket: str, s3: Any) -> None:
        s3.put_object(Bucket=bucket, Key="a b", Body=b"by a link")
        link = aws(shared_cloud, "s3", "presign", f"s3://{bucket}/a b", "--expires-in", "60").strip()
        assert urllib3.PoolManager().request("GET", link).data == b"by a link"

    def test_a_life_by_commands(self, shared_cloud: TestCloud) -> None:
        aws(shared_cloud, "s3", "mb", "s3://by-commands")
        aws(shared_cloud, "s3api", "put-bucket-versioning", "--bucket", "by-commands",
                 "--versioning-configuration", "Status=Enabled")  # fmt: skip
        assert "by-commands" in aws(shared_cloud, "s3", "ls")
        said = aws(shared_cloud, "s3", "mb", "s3://by-commands", code=1)
        aws(shared_cloud, "s3", "rb", "--force", "s3://by-commands")
        assert said == ""


class TestMinio:
    """MinIO's client for Python."""

    def test_a_life(self, shared_cloud: TestCloud, tmp_path: Path) -> None:
        from minio import Minio
        from minio.error import S3Error

        access = shared_cloud.access
        client = Minio(
            access.endpoint.removeprefix("http://"),
            access_key=access.access_key_id,
            secret_key=access.secret_access_key,
            region=access.region,
            secure=False,
        )
        client.make_bucket(bucket_name="by-minio")
        assert client.bucket_exists(bucket_name="by-minio")
        data = os.urandom(12 * MIB)
        for key, body in (("small", b"hello"), ("ä/b c", data)):
            client.put_object(
                bucket_name="by-minio",
                object_name=key,
                data=io.BytesIO(body),
                length=len(body),
                part_size=5 * MIB,
            )
            found = client.get_object(bucket_name="by-minio", object_name=key)
            assert found.read() == body
            found.release_conn()
        client.fget_object(bucket_name="by-minio", object_name="ä/b c", file_path=str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == data
        names = [one.object_name for one in client.list_objects(bucket_name="by-minio", recursive=True)]
        assert names == ["small", "ä/b c"]
        link = client.presigned_get_object(
            bucket_name="by-minio", object_name="small", expires=timedelta(minutes=1)
        )
        assert urllib3.PoolManager().request("GET", link).data == b"hello"
        for name in names:
            client.remove_object(bucket_name="by-minio", object_name=name)
        with pytest.raises(S3Error, match="NoSuchKey"):
            client.stat_object(bucket_name="by-minio", object_name="small")
        client.remove_bucket(bucket_name="by-minio")


class TestRclone:
    """Debian's rclone."""

    @pytest.fixture
    def rclone(self, shared_cloud: TestCloud) -> Any:
        if not (DEBIANS / "rclone").exists():
            pytest.skip("rclone is not installed (apt install rclone)")
        access = shared_cloud.access
        environment = shared_cloud.environment() | {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_M_TYPE": "s3",
            "RCLONE_CONFIG_M_PROVIDER": "Other",
            "RCLONE_CONFIG_M_ENDPOINT": access.endpoint,
            "RCLONE_CONFIG_M_ACCESS_KEY_ID": access.access_key_id,
            "RCLONE_CONFIG_M_SECRET_ACCESS_KEY": access.secret_access_key,
            "RCLONE_CONFIG_M_REGION": access.region,
        }
        return lambda *words, code=0: run(environment, str(DEBIANS / "rclone"), *words, code=code)

    def test_sync_check_and_purge(self, rclone: Any, bucket: str, tree: Path, tmp_path: Path) -> None:
        rclone("sync", str(tree), f"m:{bucket}/copy", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M")
        rclone("check", str(tree), f"m:{bucket}/copy", "--download")
        rclone("sync", f"m:{bucket}/copy", str(tmp_path / "back"))
        assert same(tree, tmp_path / "back")
        rclone("moveto", f"m:{bucket}/copy/a.txt", f"m:{bucket}/copy/moved.txt")
        assert rclone("cat", f"m:{bucket}/copy/moved.txt", "--count", "3") is not None
        assert json.loads(rclone("size", "--json", f"m:{bucket}"))["count"] == 25
        rclone("purge", f"m:{bucket}/copy")
        rclone("mkdir", "m:by-rclone")
        assert "by-rclone" in rclone("lsd", "m:")
        rclone("rmdir", "m:by-rclone")


class TestS3cmd:
    """Debian's s3cmd."""

    @pytest.fixture
    def s3cmd(self, shared_cloud: TestCloud, tmp_path: Path) -> Any:
        if not (DEBIANS / "s3cmd").exists():
            pytest.skip("s3cmd is not installed (apt install s3cmd)")
        access = shared_cloud.access
        where = access.endpoint.removeprefix("http://")
        config = tmp_path / "s3cfg"
        config.write_text(
            f"[default]\naccess_key = {access.access_key_id}\nsecret_key = {access.secret_access_key}\n"
            f"host_base = {where}\nhost_bucket = {where}\nuse_https = False\nbucket_location = {access.region}\n"
            "signature_v2 = False\nmultipart_chunk_size_mb = 5\n"
        )
        return lambda *words, code=0: run(
            shared_cloud.environment(), str(DEBIANS / "s3cmd"), "-c", str(config), *words, code=code
        )

    def test_a_life(self, s3cmd: Any, tree: Path, tmp_path: Path) -> None:
        s3cmd("mb", "s3://by-s3cmd")
        s3cmd("sync", "--no-progress", f"{tree}/", "s3://by-s3cmd/copy/")
        s3cmd("sync", "--no-progress", "s3://by-s3cmd/copy/", f"{tmp_path}/back/")
        assert same(tree, tmp_path / "back")
        assert "a.txt" in s3cmd("ls", "s3://by-s3cmd/copy/")
        assert "MD5 sum" in s3cmd("info", "s3://by-s3cmd/copy/a.txt")
        s3cmd("cp", "s3://by-s3cmd/copy/a.txt", "s3://by-s3cmd/b.txt")
        s3cmd("mv", "s3://by-s3cmd/b.txt", "s3://by-s3cmd/c.txt")
        s3cmd("get", "--no-progress", "s3://by-s3cmd/c.txt", str(tmp_path / "c.txt"))
        assert (tmp_path / "c.txt").read_bytes() == (tree / "a.txt").read_bytes()
        s3cmd("del", "--recursive", "--force", "s3://by-s3cmd")
        s3cmd("rb", "s3://by-s3cmd")


def test_the_operator_sees_what_is_kept(shared_cloud: TestCloud, bucket: str, s3: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(100_000))
    upload = s3.create_multipart_upload(Bucket=bucket, Key="u")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="u", UploadId=upload, PartNumber=1, Body=bytes(5000))
    program = str(Path(sys.executable).with_name("mallee"))
    words = (program, "s3", "usage", "--state", str(shared_cloud.folder.root))
    rows = json.loads(run(shared_cloud.environment(), *words, "--output", "json"))
    assert {"account": "admin", "bucket": bucket, "objects": 1, "bytes": 100_000, "uploading": 5000} in rows
    assert bucket in run(shared_cloud.environment(), *words)
