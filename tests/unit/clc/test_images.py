"""Images as files of the object store: who may register what, who may launch it, how it ends."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from mallee.clc import orders
from mallee.clc.db import images
from mallee.clc.db.images import Image
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import common_pb2
from tests.unit.clc.as_a_client import Client, refused
from tests.unit.clc.pretend_cloud import IMAGE, PretendCloud, ids_in
from tests.unit.clc.pretend_objects import DISK, LOCATION
from tests.unit.clc.test_resources_described import found, where
from tests.unit.domain.test_disk_image import CLUSTER, GIB, HOSTILE, PLAIN, qcow2

KERNEL = bytes(0x202) + b"HdrS" + bytes(600)
LAUNCH = {"MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}


async def registered(client: Client, location: str = LOCATION, name: str = "mine", **more: Any) -> str:
    return str((await client.ec2("RegisterImage", Name=name, ImageLocation=location, **more))["ImageId"])


async def the(client: Client, image_id: str, **how: Any) -> dict[str, Any]:
    (shown,) = (await client.ec2("DescribeImages", ImageIds=[image_id], **how))["Images"]
    return dict(shown)


async def kept(pretend: PretendCloud, image_id: str) -> Image:
    image = await pretend.cloud.db.read(lambda tx: images.anybodys(tx, image_id))
    assert image is not None
    return image


async def told(pretend: PretendCloud, instance_id: str) -> common_pb2.Guest:
    """The guest as its node hears of it."""
    (wish,) = await pretend.cloud.db.read(lambda tx: orders.desired(tx, [instance_id]))
    return common_pb2.Guest.FromString(wish.guest)


# --- what is registered -----------------------------------------------------------------------


async def test_an_image_is_pinned_to_the_object_that_was_looked_at(
    pretend: PretendCloud, admin: Client
) -> None:
    image = await registered(admin)
    files = (await kept(pretend, image)).more.files
    assert files is not None
    assert files.root is not None
    digest = hashlib.md5(DISK, usedforsecurity=False).hexdigest()
    assert files.root == (type(files.root))("bucket", "disk.raw", "null", 1024, digest, "raw", 1024)
    assert (files.kernel, files.ramdisk) == (None, None)


async def test_an_image_may_be_named_by_url(pretend: PretendCloud, admin: Client) -> None:
    image = await registered(admin, f"s3://{LOCATION}")
    files = (await kept(pretend, image)).more.files
    assert files is not None
    assert files.root is not None
    assert (files.root.bucket, files.root.key) == ("bucket", "disk.raw")


async def test_nobody_registers_what_he_may_not_read(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    private = pretend.objects.put(admin.principal.account_id, "private", "disk.raw", DISK)
    with refused("InvalidManifest", match="403"):
        await registered(stranger, private)
    assert pretend.objects.calls == ["stat"], "and not a byte of it was read"
    await registered(admin, private)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("bucket/none", "InvalidManifest"),
        ("nowhere/disk.raw", "InvalidManifest"),
        ("bucket", "InvalidParameterValue"),
        ("bucket/", "InvalidParameterValue"),
        ("/disk.raw", "InvalidParameterValue"),
        ("s3://", "InvalidParameterValue"),
        ("bucket/" + "é" * 600, "InvalidParameterValue"),
        ("bucket/a\nb", "InvalidParameterValue"),
    ],
)
async def test_a_location_names_an_object(admin: Client, location: str, code: str) -> None:
    with refused(code):
        await registered(admin, location)


async def test_built_in_images_are_the_operators(admin: Client, stranger: Client) -> None:
    with refused("InvalidParameterValue"):
        await registered(stranger, "builtin:tiny")
    with refused("InvalidParameterValue"):
        await registered(admin, "builtin:../../etc")
    assert await registered(admin, "builtin:other")


async def test_a_store_that_cannot_be_asked_is_said_to_be_away(pretend: PretendCloud, admin: Client) -> None:
    pretend.objects.failing["stat"] = Fault(Kind.UNAVAILABLE, "Nobody answers.")
    with refused("Unavailable", status=503):
        await registered(admin)
    pretend.objects.failing["head"] = Fault(Kind.CONFLICT, "Written over.", code="object-changed")
    with refused("IncorrectState"):
        await registered(admin)
    await registered(admin)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_image_is_refused_with_its_reason(
    pretend: PretendCloud, admin: Client, name: str
) -> None:
    location = pretend.objects.put("", "bucket", "hostile.qcow2", HOSTILE[name])
    with refused("InvalidManifest", match="The disk image is refused"):
        await registered(admin, location)
    assert (await admin.ec2("DescribeImages", Owners=["self"]))["Images"][0]["ImageId"] == IMAGE


@pytest.mark.parametrize(
    ("key", "headers", "format_"),
    [
        ("disk.qcow2", {}, "qcow2"),
        ("disk.QCOW2", {}, "qcow2"),
        ("disk.img", {"x_amz_meta_disk_format": "qcow2"}, "qcow2"),
        ("disk.qcow2", {"x_amz_meta_disk_format": "raw"}, ""),
        ("disk.img", {}, ""),
        ("disk.qcow2", {"x_amz_meta_disk_format": "vmdk"}, ""),
    ],
)
async def test_a_format_is_declared_and_never_guessed(
    pretend: PretendCloud, admin: Client, key: str, headers: dict[str, str], format_: str
) -> None:
    location = pretend.objects.put("", "bucket", key, PLAIN["version 3"], **headers)
    if not format_:
        with refused("InvalidManifest"):
            await registered(admin, location)
        return
    files = (await kept(pretend, await registered(admin, location))).more.files
    assert files is not None
    assert files.root is not None
    assert (files.root.format, files.root.virtual_bytes) == (format_, 1 << 30)


# --- kernels and ramdisks ---------------------------------------------------------------------


async def test_a_machine_boots_the_kernel_and_ramdisk_that_its_image_names(
    pretend: PretendCloud, admin: Client
) -> None:
    kernel_at = pretend.objects.put("", "bucket", "vmlinuz", KERNEL)
    ramdisk_at = pretend.objects.put("", "bucket", "initrd", b"anything")
    kernel = await registered(admin, kernel_at, "kernel", KernelId="true")
    ramdisk = await registered(admin, ramdisk_at, "ramdisk", RamdiskId="true")
    assert (kernel[:4], ramdisk[:4]) == ("aki-", "ari-")
    machine = await registered(admin, LOCATION, "machine", KernelId=kernel, RamdiskId=ramdisk)
    shown = await the(admin, machine)
    assert (shown["KernelId"], shown["RamdiskId"], shown["ImageType"]) == (kernel, ramdisk, "machine")
    assert [(await the(admin, each))["ImageType"] for each in (kernel, ramdisk)] == ["kernel", "ramdisk"]
    assert await found(admin, "Images", "ImageId", **where("image-type", "kernel")) == [kernel]
    assert await found(admin, "Images", "ImageId", **where("kernel-id", kernel)) == [machine]
    answer = await admin.ec2("DescribeImageAttribute", ImageId=machine, Attribute="kernel")
    assert answer["KernelId"] == {"Value": kernel}

    (instance,) = await pretend.run(ImageId=machine)
    booted = (await told(pretend, instance)).image
    assert [booted.root.key, booted.kernel.key, booted.ramdisk.key] == ["disk.raw", "vmlinuz", "initrd"]
    assert (booted.kernel.size, booted.kernel.format) == (len(KERNEL), "")

    await admin.ec2("CreateTags", Resources=[kernel], Tags=[{"Key": "a", "Value": "b"}])
    assert (await the(admin, kernel))["Tags"] == [{"Key": "a", "Value": "b"}]
    for each in (kernel, ramdisk):
        with refused("InvalidAMIID.Malformed"):
            await admin.ec2("RunInstances", ImageId=each, **LAUNCH)


async def test_what_is_no_kernel_is_refused(pretend: PretendCloud, admin: Client, stranger: Client) -> None:
    at = pretend.objects.put("", "bucket", "vmlinuz", b"\x7fELF" + bytes(1000))
    with refused("InvalidManifest", match="header of a Linux kernel"):
        await registered(admin, at, KernelId="true")
    empty = pretend.objects.put("", "bucket", "initrd", b"")
    with refused("InvalidManifest"):
        await registered(admin, empty, RamdiskId="true")
    pretend.objects.put("", "bucket", "vmlinuz", KERNEL)
    kernel = await registered(stranger, at, KernelId="true")
    for parameters, code in (
        ({"KernelId": "true", "RamdiskId": "true"}, "InvalidParameterCombination"),
        ({"KernelId": "true", "RamdiskId": "ari-01234567"}, "InvalidParameterCombination"),
        ({"RamdiskId": "ari-01234567"}, "InvalidParameterCombination"),
        ({"KernelId": "ami-01234567"}, "InvalidAMIID.Malformed"),
        ({"KernelId": kernel}, "InvalidAMIID.NotFound"),  # another account's
    ):
        with refused(code):
            await registered(admin, LOCATION, "machine", **parameters)


# --- root disks -------------------------------------------------------------------------------


def root(size: int | None = None, device: str = "/dev/sda1", **ebs: Any) -> list[dict[str, Any]]:
    return [{"DeviceName": device, "Ebs": ({} if size is None else {"VolumeSize": size}) | ebs}]


async def test_a_root_disk_has_the_size_that_was_asked_for(pretend: PretendCloud, admin: Client) -> None:
    location = pretend.objects.put("", "bucket", "disk.qcow2", PLAIN["version 3"])  # a disk of 1 GiB
    plain = await registered(admin, location, "plain")
    large = await registered(admin, location, "large", BlockDeviceMappings=root(8))
    assert (await the(admin, plain))["BlockDeviceMappings"] == []
    assert (await the(admin, large))["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": True}}
    ]
    assert await found(admin, "Images", "ImageId", **where("block-device-mapping.volume-size", "8")) == [
        large
    ]
    for image, asked, gib in ((plain, None, 0), (plain, 20, 20), (large, None, 8), (large, 3, 3)):
        more = {} if asked is None else {"BlockDeviceMappings": root(asked)}
        (instance,) = await pretend.run(ImageId=image, **more)
        assert (await told(pretend, instance)).root_gib == gib


@pytest.mark.parametrize(
    ("mappings", "code"),
    [
        (root(0), "InvalidParameterValue"),
        (root(16_385), "InvalidParameterValue"),
        (root(1), "InvalidBlockDeviceMapping"),  # smaller than the image
        (root(8, "/dev/sdb"), "UnsupportedOperation"),
        (root(8) + root(9), "InvalidBlockDeviceMapping"),
        (root(8, DeleteOnTermination=False), "UnsupportedOperation"),
        (root(8, SnapshotId="snap-1"), "UnsupportedOperation"),
        (root(8, Encrypted=True), "UnsupportedOperation"),
        (root(8, VolumeType="gp3"), "UnsupportedOperation"),
        (root(), "UnsupportedOperation"),
        ([{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}], "UnsupportedOperation"),
        ([{"Ebs": {"VolumeSize": 8}}], "InvalidBlockDeviceMapping"),
    ],
)
async def test_what_no_root_disk_can_be_is_refused(
    pretend: PretendCloud, admin: Client, mappings: list[dict[str, Any]], code: str
) -> None:
    more_than_one = qcow2(size=GIB + 512, l1=(3, 3 * CLUSTER))
    location = pretend.objects.put("", "bucket", "disk.qcow2", more_than_one)
    with refused(code):
        await registered(admin, location, BlockDeviceMappings=mappings)
    image = await registered(admin, location, "plain")
    with refused(code):
        await admin.ec2("RunInstances", ImageId=image, BlockDeviceMappings=mappings, **LAUNCH)


# --- sharing ----------------------------------------------------------------------------------


async def test_an_image_is_launched_by_those_it_is_shared_with(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    image, other = await registered(admin), stranger.principal.account_id

    async def launched() -> int:
        return len(ids_in(await pretend.text("RunInstances", account=other, ImageId=image, **LAUNCH)))

    async def permissions() -> list[dict[str, str]]:
        answer = await admin.ec2("DescribeImageAttribute", ImageId=image, Attribute="launchPermission")
        return list(answer["LaunchPermissions"])

    with refused("InvalidAMIID.NotFound"):
        await launched()
    await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Add": [{"UserId": other}]})
    await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Add": [{"UserId": other}]})
    assert await permissions() == [{"UserId": other}]
    assert await launched() == 1
    assert await found(stranger, "Images", "ImageId", ExecutableUsers=["self"]) == [image]
    assert await found(stranger, "Images", "ImageId", ExecutableUsers=["all"]) == [IMAGE]
    assert await found(admin, "Images", "ImageId", ExecutableUsers=[other]) == [image]
    assert await found(stranger, "Images", "ImageId", Owners=["self"]) == []
    assert "DeregistrationProtection" not in await the(stranger, image)

    await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Remove": [{"UserId": other}]})
    assert await permissions() == []
    with refused("InvalidAMIID.NotFound"):
        await launched()

    flat = {"ImageId": image, "Attribute": "launchPermission"}
    await admin.ec2("ModifyImageAttribute", **flat, OperationType="add", UserIds=[other], UserGroups=["all"])
    assert await permissions() == [{"Group": "all"}, {"UserId": other}]
    await admin.ec2("ModifyImageAttribute", **flat, OperationType="remove", UserIds=[other])
    assert (await launched(), (await the(stranger, image))["Public"]) == (1, True)
    await admin.ec2("ResetImageAttribute", ImageId=image, Attribute="launchPermission")
    assert await permissions() == []
    with refused("InvalidAMIID.NotFound"):
        await launched()


async def test_an_image_that_is_gone_is_shared_with_nobody(admin: Client, stranger: Client) -> None:
    image = await registered(admin)
    share = {"Add": [{"UserId": stranger.principal.account_id}]}
    await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission=share)
    with refused("AuthFailure"):
        await stranger.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission=share)
    with refused("AuthFailure"):
        await stranger.ec2("DeregisterImage", ImageId=image)
    await admin.ec2("DeregisterImage", ImageId=image)
    assert await found(stranger, "Images", "ImageId", ExecutableUsers=["self"]) == []


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "MissingParameter"),
        ({"Attribute": "kernel"}, "UnsupportedOperation"),
        ({"LaunchPermission": {"Add": [{"UserId": "1"}]}}, "InvalidAMIAttributeItemValue"),
        ({"LaunchPermission": {"Add": [{"UserId": "999999999999"}]}}, "InvalidAMIAttributeItemValue"),
        ({"LaunchPermission": {"Add": [{"Group": "some"}]}}, "InvalidAMIAttributeItemValue"),
        ({"LaunchPermission": {"Add": [{"OrganizationArn": "arn"}]}}, "UnsupportedOperation"),
        ({"UserIds": ["999999999999"]}, "InvalidParameterValue"),
        ({"Description": {"Value": "d" * 256}}, "InvalidParameterValue"),
        ({"ProductCodes": ["x"]}, "UnsupportedOperation"),
        ({"ImdsSupport": {"Value": "v2.0"}}, "UnsupportedOperation"),
    ],
)
async def test_what_cannot_be_said_of_an_image(admin: Client, parameters: dict[str, Any], code: str) -> None:
    image = await registered(admin)
    with refused(code):
        await admin.ec2("ModifyImageAttribute", ImageId=image, **parameters)


async def test_a_description_changes(admin: Client) -> None:
    image = await registered(admin)
    await admin.ec2("ModifyImageAttribute", ImageId=image, Description={"Value": "one"})
    assert (await the(admin, image))["Description"] == "one"
    await admin.ec2("ModifyImageAttribute", ImageId=image, Attribute="description", Value="two")
    assert (await the(admin, image))["Description"] == "two"


# --- disabled, deprecated, protected ----------------------------------------------------------


async def test_a_disabled_image_is_launched_by_nobody(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    image = await registered(admin)
    share = {"Add": [{"UserId": stranger.principal.account_id}, {"Group": "all"}]}
    await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission=share)
    assert (await admin.ec2("DisableImage", ImageId=image))["Return"] is True
    assert image not in await found(admin, "Images", "ImageId")
    assert (await the(admin, image, IncludeDisabled=True))["State"] == "disabled"
    assert image not in await found(stranger, "Images", "ImageId", IncludeDisabled=True)
    with refused("InvalidAMIID.Unavailable"):
        await pretend.run(ImageId=image)
    with refused("IncorrectState"):
        await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission=share)
    assert (await admin.ec2("EnableImage", ImageId=image))["Return"] is True
    assert (await the(admin, image))["Public"] is False
    assert await pretend.run(ImageId=image)


async def test_a_deprecated_image_is_found_by_who_asks_for_it(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    image = await registered(admin)
    await admin.ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    at = "2026-01-01T00:10:59Z"
    assert (await admin.ec2("EnableImageDeprecation", ImageId=image, DeprecateAt=at))["Return"] is True
    assert (await the(admin, image))["DeprecationTime"] == "2026-01-01T00:10:00.000Z"
    assert image in await found(stranger, "Images", "ImageId")
    await pretend.clock.advance(601)
    assert image not in await found(stranger, "Images", "ImageId")
    assert image in await found(stranger, "Images", "ImageId", IncludeDeprecated=True)
    assert await found(stranger, "Images", "ImageId", ImageIds=[image]) == [image]
    assert image in await found(admin, "Images", "ImageId"), "its owner always sees it"
    assert ids_in(
        await pretend.text("RunInstances", account=stranger.principal.account_id, ImageId=image, **LAUNCH)
    )
    assert (await admin.ec2("DisableImageDeprecation", ImageId=image))["Return"] is True
    assert image in await found(stranger, "Images", "ImageId")
    for wrong in ("2025-01-01T00:00:00Z", "2046-01-01T00:00:00Z"):
        with refused("InvalidParameterValue"):
            await admin.ec2("EnableImageDeprecation", ImageId=image, DeprecateAt=wrong)


async def test_a_protected_image_is_not_deregistered(pretend: PretendCloud, admin: Client) -> None:
    image = await registered(admin)
    on, off = "EnableImageDeregistrationProtection", "DisableImageDeregistrationProtection"
    assert (await admin.ec2(on, ImageId=image))["Return"] == "enabled-without-cooldown"
    assert (await the(admin, image))["DeregistrationProtection"] == "enabled-without-cooldown"
    with refused("OperationNotPermitted"):
        await admin.ec2("DeregisterImage", ImageId=image)
    await admin.ec2(off, ImageId=image)
    assert (await admin.ec2(on, ImageId=image, WithCooldown=True))["Return"] == "enabled-with-cooldown"
    await admin.ec2(off, ImageId=image)
    with refused("OperationNotPermitted"):
        await admin.ec2("DeregisterImage", ImageId=image)
    await pretend.clock.advance(24 * 3600)
    await admin.ec2("DeregisterImage", ImageId=image)


# --- what is made of it -----------------------------------------------------------------------


async def test_a_running_instance_outlives_its_image(pretend: PretendCloud, admin: Client) -> None:
    image = await registered(admin)
    (instance,) = await pretend.run(ImageId=image)
    await admin.ec2("DeregisterImage", ImageId=image)
    assert (await told(pretend, instance)).image.root.key == "disk.raw"


async def test_a_copy_is_pending_and_remembers_where_it_came_from(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "1"}]}]
    source = await registered(admin, Description="d", TagSpecifications=tags, ImdsSupport="v2.0")
    more = [{"ResourceType": "image", "Tags": [{"Key": "b", "Value": "2"}]}]
    copy = (
        await admin.ec2(
            "CopyImage",
            SourceImageId=source,
            SourceRegion="mallee-1",
            Name="copy",
            CopyImageTags=True,
            TagSpecifications=more,
        )
    )["ImageId"]
    shown = await the(admin, copy)
    assert (shown["State"], shown["Description"], shown["ImdsSupport"]) == ("pending", "d", "v2.0")
    assert (shown["SourceImageId"], shown["SourceImageRegion"]) == (source, "mallee-1")
    assert shown["Tags"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    with refused("InvalidAMIID.Unavailable"):
        await pretend.run(ImageId=copy)
    how = {"SourceRegion": "mallee-1", "Name": "again"}
    with refused("InvalidAMIID.Unavailable"):
        await admin.ec2("CopyImage", SourceImageId=copy, **how)
    with refused("InvalidAMIID.NotFound"):
        await stranger.ec2("CopyImage", SourceImageId=source, **how)
    with refused("InvalidParameterValue"):
        await admin.ec2("CopyImage", SourceImageId=source, SourceRegion="us-east-1", Name="again")
    with refused("InvalidAMIName.Duplicate"):
        await admin.ec2("CopyImage", SourceImageId=source, SourceRegion="mallee-1", Name="copy")
    with refused("UnsupportedOperation"):
        await admin.ec2("CopyImage", SourceImageId=source, Encrypted=True, **how)


async def test_an_image_of_an_instance_is_pending_and_remembers_it(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    (instance,) = await pretend.run()
    with refused("IncorrectInstanceState"):
        await admin.ec2("CreateImage", InstanceId=instance, Name="early")
    await pretend.settle()
    image = (await admin.ec2("CreateImage", InstanceId=instance, Name="made", NoReboot=True))["ImageId"]
    shown = await the(admin, image)
    assert (shown["State"], shown["SourceInstanceId"], shown["SourceImageId"]) == ("pending", instance, IMAGE)
    assert shown["ImageLocation"] == f"mallee-images-{admin.principal.account_id}/{image}/root"
    with refused("InvalidAMIName.Duplicate"):
        await admin.ec2("CreateImage", InstanceId=instance, Name="made")
    with refused("InvalidInstanceID.NotFound"):
        await stranger.ec2("CreateImage", InstanceId=instance, Name="theirs")
    await pretend.ask("TerminateInstances", InstanceIds=[instance])
    with refused("IncorrectInstanceState"):
        await admin.ec2("CreateImage", InstanceId=instance, Name="late")
