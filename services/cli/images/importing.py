"""A file of this machine becomes an image of the cloud: looked at, uploaded in parts, registered, waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mallee.cli.client import Cloud
from mallee.domain.boot_files import check_kernel, check_ramdisk
from mallee.domain.disk_image import HEAD_BYTES, IMAGES_OF, Format, inspect
from mallee.kernel.errors import Fault, Kind

_PART: Final = 16 << 20  # bytes of a part; four are on their way at once
_WAIT: Final = {"Delay": 1, "MaxAttempts": 600}


@dataclass(frozen=True, slots=True)
class Files:
    """What an image is made of. A kernel and a ramdisk are of those that do not boot by themselves."""

    disk: Path
    format: Format
    kernel: Path | None = None
    ramdisk: Path | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What is said of an image."""

    name: str
    description: str = ""
    architecture: str = "x86_64"
    bucket: str = ""


def format_of(disk: Path, said: str) -> Format:
    """What is said, else what the name ends in. The bytes are never asked: a guest may have written them."""
    return Format(said or ("qcow2" if disk.suffix.lower() in {".qcow2", ".qcow"} else "raw"))


def check(files: Files, architecture: str) -> None:
    """What the cloud would refuse after the upload is refused before it.

    Raises:
        Fault: INVALID, with the reason; NOT_FOUND, for a file that is not there.
    """
    head, length = _head(files.disk)
    try:
        inspect(head, length, files.format)
    except Fault as fault:
        if files.format is Format.RAW and head.startswith(b"QFI\xfb"):
            fix = "Say `--format qcow2`."
            raise Fault(fault.kind, fault.what, why=fault.why, fix=fix, code=fault.code) from fault
        raise
    if files.ramdisk is not None and files.kernel is None:
        raise Fault(
            Kind.INVALID, "A ramdisk needs a kernel.", fix="Say --kernel FILE, too.", code="no-kernel"
        )
    if files.kernel is not None:
        head, length = _head(files.kernel)
        check_kernel(head, length, architecture)
    if files.ramdisk is not None:
        check_ramdisk(_head(files.ramdisk)[1])


def bring(cloud: Cloud, files: Files, about: About) -> str:
    """The id of the image, once it is available. What was uploaded goes again when that fails.

    Raises:
        Fault: INVALID, with the reason.
    """
    check(files, about.architecture)
    s3, ec2 = cloud.client("s3"), cloud.ec2
    bucket = about.bucket or f"{IMAGES_OF}{cloud.client('sts').get_caller_identity()['Account']}"
    _make_bucket(s3, bucket)
    uploaded: list[str] = []
    made: list[str] = []
    parts = {"KernelId": files.kernel, "RamdiskId": files.ramdisk}
    try:
        ids = {}
        for parameter, path in parts.items():
            if path is None:
                continue
            what = parameter.removesuffix("Id").lower()
            key = _upload(s3, bucket, f"{about.name}/{what}", path, {})
            uploaded.append(key)
            ids[parameter] = _register(
                ec2, about, f"{bucket}/{key}", f"{about.name} {what}", {parameter: "true"}
            )
            made.append(ids[parameter])
        metadata = {"disk-format": files.format.value}
        key = _upload(s3, bucket, f"{about.name}/disk.{files.format}", files.disk, metadata)
        uploaded.append(key)
        image = _register(ec2, about, f"{bucket}/{key}", about.name, ids)
    except BaseException:
        for image_id in made:
            ec2.deregister_image(ImageId=image_id)
        for key in uploaded:
            s3.delete_object(Bucket=bucket, Key=key)
        raise
    ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=_WAIT)
    return image


def _head(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES), path.stat().st_size
    except OSError as error:
        raise Fault(
            Kind.NOT_FOUND, f"{path} cannot be read.", why=f"{error.strerror}.", code="no-such-file"
        ) from error


def _make_bucket(s3: Any, bucket: str) -> None:
    from botocore.exceptions import ClientError

    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise


def _upload(s3: Any, bucket: str, key: str, path: Path, metadata: dict[str, str]) -> str:
    """The key. A file that is there already is not written over: an image may boot from it."""
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError

    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    else:
        raise Fault(
            Kind.CONFLICT,
            f"{bucket}/{key} is there already.",
            why="An image of that name was imported before.",
            fix="Give another --name, or delete the object.",
            code="image-there",
        )
    parts = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=4)
    with _progress(path) as sent:
        s3.upload_file(str(path), bucket, key, ExtraArgs={"Metadata": metadata}, Config=parts, Callback=sent)
    return key


@contextmanager
def _progress(path: Path) -> Iterator[Any]:
    """A bar on standard error; what it yields is told of each piece that was sent."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from mallee.cli.output import console

    columns = (TextColumn(path.name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(path.name, total=path.stat().st_size)
        yield lambda count: bar.advance(task, count)


def _register(ec2: Any, about: About, location: str, name: str, more: dict[str, str]) -> str:
    answer = ec2.register_image(
        Name=name,
        Description=about.description,
        ImageLocation=location,
        Architecture=about.architecture,
        VirtualizationType="hvm",
        **more,
    )
    image: str = answer["ImageId"]
    return image
