"""`mallee doctor` and `mallee healthz`: is this machine fit, is that service well."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from mallee.cli import options, ports
from mallee.cli.commands.finding import Finding
from mallee.cli.state import StateFolder

DISK = 2 * 10**9  # bytes free, for logs, databases and a few images
CLOCK = 60.0  # seconds the calendar may differ from the file system's


def register(app: typer.Typer) -> None:
    app.command()(doctor)
    app.command()(healthz)


def doctor(
    state: options.State = None,
    hypervisor: Annotated[
        options.Hypervisor | None,
        typer.Option(help="Check for these guests. [default: as the cloud of the state folder has]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="mallee.toml, a section per service.")
    ] = None,
) -> None:
    """Check this machine and this user's AWS set-up; one line a check, the fix beside it."""
    failed = 0
    folder = StateFolder.find(state)
    for finding in chain(findings(folder), _real_host(folder, hypervisor, config)):
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
        fix = f"   -> {finding.fix}" if finding.fix and finding.ok is not True else ""
        typer.echo(f"{mark} {finding.name:<18} {finding.seen}{fix}")
        failed += finding.ok is False
    if failed:
        raise typer.Exit(1)


def healthz(
    service: Annotated[str, typer.Argument(help="clc, walrus, sc, cc-ZONE, nc-NODE.")],
    address: Annotated[str, typer.Option(help="host:port. [default: as `mallee up` chose]")] = "",
    state: options.State = None,
) -> None:
    """Ask a service whether it is well; exit code 0 if it is. For containers and monitors."""
    from mallee.cli.health import ask
    from mallee.cli.settings import CloudConfig
    from mallee.kernel.config import load

    cloud = load(CloudConfig, "cloud", None, os.environ).name
    asyncio.run(ask(StateFolder.find(state), service, address, cloud))
    typer.echo("ok")


def _real_host(
    folder: StateFolder, hypervisor: options.Hypervisor | None, config: Path | None
) -> Iterator[Finding]:
    """What real guests need, where they are asked for."""
    from mallee.cli.commands import real_host
    from mallee.cli.commands.real_machine import Machine
    from mallee.kernel.config import load
    from mallee.nc.config import NcConfig

    settings = load(NcConfig, "nc", config, os.environ)
    shape = folder.shape()
    has = hypervisor or (shape.hypervisor if shape else settings.hypervisor)
    if has == options.Hypervisor.LIBVIRT:
        yield from real_host.findings(settings, Machine())
    else:
        fix = "Their host is looked at with: mallee doctor --hypervisor libvirt"
        yield Finding(None, "real guests", "not asked for", fix)


def findings(folder: StateFolder) -> Iterator[Finding]:
    """Every check, in the order in which things fail."""
    checks: tuple[Callable[[StateFolder], Finding], ...] = (
        _python,
        _packages,
        _disk,
        _clock,
        _memory,
        _ports,
        _cloud,
        _kvm,
        _qemu,
        _profile,
        _extras,
    )
    for check in checks:
        yield check(folder)


def _python(_: StateFolder) -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        sys.version_info >= (3, 11), "Python", found, "Use 3.11 or newer: python3.11 -m venv .venv"
    )


def _packages(_: StateFolder) -> Finding:
    names = ("mallee", "boto3", "botocore", "grpcio", "sqlalchemy")
    try:
        return Finding(True, "versions", "  ".join(f"{name} {version(name)}" for name in names))
    except PackageNotFoundError as error:
        return Finding(False, "versions", f"{error.name} is missing", "Install Mallee again: pip install .")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _disk(folder: StateFolder) -> Finding:
    place = _existing(folder.root)
    free = shutil.disk_usage(place).free
    fix = "Free some space, or name another folder with --state."
    return Finding(
        free > DISK and os.access(place, os.W_OK), "disk", f"{free / 1e9:.1f} GB free in {place}", fix
    )


def _clock(folder: StateFolder) -> Finding:
    """Signatures are refused when the calendar is wrong; the certificates' first day is a witness."""
    from mallee.kernel.clock import SystemClock

    now = SystemClock().now().timestamp()
    newest = max((path.stat().st_mtime for path in folder.root.rglob("*.json")), default=now)
    fix = "Set the clock, e.g. by NTP: requests are signed with the time."
    return Finding(newest - now < CLOCK, "clock", SystemClock().now().isoformat(timespec="seconds"), fix)


def _memory(_: StateFolder) -> Finding:
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    free = pages * size
    return Finding(
        free > 400 * 10**6, "memory", f"{free / 1e9:.1f} GB free", "A cloud of fake nodes needs 400 MB."
    )


def _ports(folder: StateFolder) -> Finding:
    shape = folder.shape()
    wanted = {"EC2": shape.ports["ec2"], "S3": shape.ports["s3"]} if shape else {"EC2": 8773, "S3": 8774}
    taken = {name: port for name, port in wanted.items() if not ports.is_free(port)}
    seen = "  ".join(f"{name} {port}" for name, port in wanted.items())
    if not taken:
        return Finding(True, "ports", f"{seen} free")
    if _running(folder):
        return Finding(True, "ports", f"{seen} ours")
    held = "; ".join(f"{port} is held by {ports.holder(port)}" for port in taken.values())
    return Finding(False, "ports", held, f"mallee up --port {ports.next_free(max(wanted.values()))}")


def _running(folder: StateFolder) -> bool:
    from mallee.cli.commands.looks import lives

    return any(lives(pid) for pid in folder.pids().values())


def _cloud(folder: StateFolder) -> Finding:
    if _running(folder):
        return Finding(True, "cloud", f"running, {folder.access().endpoint}, state {folder.root}")
    return Finding(None, "cloud", f"not running, state {folder.root}", "mallee up")


def _kvm(_: StateFolder) -> Finding:
    device = Path("/dev/kvm")
    if os.access(device, os.R_OK | os.W_OK):
        return Finding(True, "KVM", f"{device} opens; whether guests run on it is not tried")
    seen = "not permitted" if device.exists() else "none"
    return Finding(
        None, "KVM", seen, "Only for real virtual machines: load kvm_intel or kvm_amd, join group kvm."
    )


def _qemu(_: StateFolder) -> Finding:
    found = shutil.which("qemu-system-x86_64")
    fix = "Only for real virtual machines: apt install qemu-system-x86"
    return Finding(True if found else None, "QEMU", found or "none", fix)


def _profile(_: StateFolder) -> Finding:
    import botocore.session

    has = "mallee" in botocore.session.Session().available_profiles
    return Finding(True if has else None, "AWS profile", "mallee" if has else "none", "mallee configure")


def _extras(_: StateFolder) -> Finding:
    """As any client would find them, in the newest model of EC2 that its botocore has."""
    import botocore.session

    session = botocore.session.Session()
    loader = session.get_component("data_loader")
    newest = loader.determine_latest_version("ec2", "service-2")
    known = "MigrateInstances" in loader.load_service_model("ec2", "service-2")["operations"]
    seen = f"known to botocore in EC2 {newest}" if known else "not known to botocore"
    return Finding(True if known else None, "model extension", seen, "mallee configure")
