"""`mallee image`: what guests boot from."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mallee.cli import options
from mallee.cli.output import Format, show, tell

app = typer.Typer(help="Images: import, list, build them.", no_args_is_help=True)

TINY_DISK = 8 << 20  # bytes of the empty disk of a tiny image, which boots from its ramdisk
_TINY = Path("/var/lib/mallee/images/tiny")


class DiskFormat(StrEnum):
    """The value of `--format`."""

    RAW = "raw"
    QCOW2 = "qcow2"


Name = Annotated[str, typer.Option("--name", help="Of the image. [default: the file's]", show_default=False)]
Description = Annotated[str, typer.Option("--description", help="What it is.")]
Bucket = Annotated[
    str,
    typer.Option("--bucket", help="Where it is put. [default: mallee-images-ACCOUNT]", show_default=False),
]


@app.callback()
def images() -> None:
    """Images: import, list, build them."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A disk: raw or qcow2.")],
    name: Name = "",
    format_: Annotated[
        DiskFormat | None,
        typer.Option(
            "--format", help="What the file is. [default: by its name, else raw]", show_default=False
        ),
    ] = None,
    kernel: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Linux, for a disk that does not boot by itself.")
    ] = None,
    ramdisk: Annotated[Path | None, typer.Option(metavar="FILE", help="Its initramfs.")] = None,
    architecture: Annotated[str, typer.Option(help="Of the guests.")] = "x86_64",
    description: Description = "",
    bucket: Bucket = "",
    state: options.State = None,
) -> None:
    """Upload a disk of this machine, register it, and print the image's id when it can be launched."""
    from mallee.cli.client import Cloud
    from mallee.cli.images.importing import About, Files, bring, format_of

    files = Files(file, format_of(file, format_.value if format_ else ""), kernel, ramdisk)
    about = About(name or file.stem, description, architecture, bucket)
    typer.echo(bring(Cloud.find(state), files, about))


@app.command("list")
def list_(
    *,
    all_: Annotated[bool, typer.Option("--all", help="Those of others, too.")] = False,
    state: options.State = None,
    output: options.Output = Format.TABLE,
) -> None:
    """Print the images of the account."""
    from mallee.cli.client import Cloud

    pages = Cloud.find(state).ec2.get_paginator("describe_images")
    owners = [] if all_ else ["self"]
    rows = [
        {
            "image": each["ImageId"],
            "name": each["Name"],
            "state": each["State"],
            "kind": each["ImageType"],
            "architecture": each["Architecture"],
            "public": "yes" if each["Public"] else "no",
            "created": each["CreationDate"],
            "location": each["ImageLocation"],
            "why": each.get("StateReason", {}).get("Message", ""),
        }
        for page in pages.paginate(Owners=owners, IncludeDisabled=True)
        for each in page["Images"]
    ]
    show(sorted(rows, key=lambda row: row["created"]), output, none="No images.")


@app.command()
def build_tiny(
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"Where it is put. [default: {_TINY}]", show_default=False),
    ] = None,
    *,
    register: Annotated[bool, typer.Option("--register", help="Upload and register it, too.")] = False,
    name: Annotated[str, typer.Option("--name", help="Of the image that is registered.")] = "tiny",
    state: options.State = None,
) -> None:
    """Make a bootable guest of a few MB from Debian's packages: kernel, busybox, dropbear."""
    from mallee.cli.tiny import build

    if not register:
        for path in build(to or _TINY):
            tell(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
        return
    from mallee.cli.client import Cloud
    from mallee.cli.images.importing import About, Files, bring, format_of

    with tempfile.TemporaryDirectory(prefix="mallee-image-") as scratch:
        cloud = Cloud.find(state)
        kernel, ramdisk = build(to or Path(scratch))
        disk = Path(scratch) / "disk.raw"
        with disk.open("wb") as empty:
            empty.truncate(TINY_DISK)
        files = Files(disk, format_of(disk, "raw"), kernel, ramdisk)
        about = About(name, "Linux, busybox and dropbear, in memory; its disk is empty")
        typer.echo(bring(cloud, files, about))


@app.command()
def build_debian(
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the files there. [default: nowhere]", show_default=False),
    ] = None,
    gib: Annotated[int, typer.Option("--size", min=1, max=100, help="Of the disk, GiB.")] = 2,
    name: Annotated[str, typer.Option("--name", help="Of the image.")] = "debian-12",
    state: options.State = None,
) -> None:
    """Build Debian 12 with cloud-init, upload and register it, and print the image's id. Root's, and takes minutes."""
    from mallee.cli.client import Cloud
    from mallee.cli.images.debian import build
    from mallee.cli.images.importing import About, bring

    cloud = Cloud.find(state)
    with tempfile.TemporaryDirectory(prefix="mallee-image-") as scratch:
        tell("Building; this takes some minutes.")
        files = build(to or Path(scratch), gib=gib)
        about = About(name, "Debian 12 with cloud-init; log in as debian")
        typer.echo(bring(cloud, files, about))
