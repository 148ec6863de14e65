"""`mallee image`: a file becomes an image, and a file that is none never leaves the machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.client import Cloud
from mallee.cli.images import importing
from mallee.cli.images.importing import About, Files, bring
from mallee.domain.disk_image import Format
from mallee.kernel.errors import Fault
from tests.cloud.clouds import TestCloud
from tests.cloud.conftest import empty
from tests.cloud.test_command_line import MALLEE
from tests.unit.clc.test_images import KERNEL
from tests.unit.domain.test_disk_image import HOSTILE, PLAIN


@pytest.fixture(autouse=True)
def tidy(s3: Any, shared_cloud: TestCloud) -> Iterator[None]:
    """No images and no bucket of images are left."""
    yield
    for image in shared_cloud.ec2.describe_images(Owners=["self"])["Images"]:
        if not image["ImageLocation"].startswith("builtin:"):
            shared_cloud.ec2.deregister_image(ImageId=image["ImageId"])
    empty(s3, f"mallee-images-{shared_cloud.access.account_id}")


def said(cloud: TestCloud, *words: str) -> str:
    command = [MALLEE, "image", *words, "--state", str(cloud.folder.root)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_file_is_imported_and_listed(cloud: TestCloud, tmp_path: Path) -> None:
    disk = tmp_path / "debian.raw"
    with disk.open("wb") as file:
        file.truncate(40 << 20)  # in three parts
    image = said(cloud, "import", str(disk), "--description", "from a file").strip()
    (shown,) = cloud.ec2.describe_images(ImageIds=[image])["Images"]
    assert (shown["Name"], shown["State"], shown["Description"]) == ("debian", "available", "from a file")
    listed = {row["image"]: row for row in json.loads(said(cloud, "list", "-o", "json"))}
    assert listed[image]["name"] == "debian"
    cloud.ec2.terminate_instances(InstanceIds=[cloud.launch(ImageId=image)[0]["InstanceId"]])


def test_a_disk_comes_with_its_kernel_and_ramdisk(cloud: TestCloud, tmp_path: Path) -> None:
    for name, data in (("disk.qcow2", PLAIN["version 3"]), ("vmlinuz", KERNEL), ("initrd", b"cpio")):
        (tmp_path / name).write_bytes(data)
    files = Files(tmp_path / "disk.qcow2", Format.QCOW2, tmp_path / "vmlinuz", tmp_path / "initrd")
    image = bring(Cloud(cloud.access), files, About("whole"))
    (shown,) = cloud.ec2.describe_images(ImageIds=[image])["Images"]
    kinds = {
        each["ImageType"]: each["Name"]
        for each in cloud.ec2.describe_images(ImageIds=[shown["KernelId"], shown["RamdiskId"]])["Images"]
    }
    assert kinds == {"kernel": "whole kernel", "ramdisk": "whole ramdisk"}
    with pytest.raises(Fault, match="is there already"):
        bring(Cloud(cloud.access), files, About("whole"))


def test_what_is_no_image_is_not_uploaded(
    cloud: TestCloud, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk.qcow2"
    for name in ("backing file", "data file by extension"):
        disk.write_bytes(HOSTILE[name])
        with pytest.raises(Fault, match="refused"):
            bring(Cloud(cloud.access), Files(disk, Format.QCOW2), About("bad"))
    disk.write_bytes(PLAIN["version 3"])
    with pytest.raises(Fault, match="--format qcow2"):
        bring(Cloud(cloud.access), Files(disk, Format.RAW), About("bad"))
    with pytest.raises(Fault, match="needs a kernel"):
        bring(Cloud(cloud.access), Files(disk, Format.QCOW2, ramdisk=disk), About("bad"))
    with pytest.raises(Fault, match="cannot be read"):
        bring(Cloud(cloud.access), Files(tmp_path / "none", Format.RAW), About("bad"))

    # The cloud looks for itself; and then nothing of it stays.
    disk.write_bytes(HOSTILE["backing file"])
    monkeypatch.setattr(importing, "check", lambda *_: None)
    with pytest.raises(Exception, match="InvalidManifest"):
        bring(Cloud(cloud.access), Files(disk, Format.QCOW2), About("bad"))
    bucket = f"mallee-images-{cloud.access.account_id}"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
