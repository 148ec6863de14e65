"""A bootable guest of a few MB, made from Debian's own packages: what first tries and tests boot.

Kernel and ramdisk alone, no disk: busybox, dropbear, DHCP, the metadata service's keys and user data.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from mallee.kernel.errors import Fault, Kind

KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
PACKAGES: Final = ("busybox-static", "dropbear-bin")
MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_net", "evdev", "button")
_TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb", "cpio")
_DHCP: Final = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/${mask:-24}" dev "$interface"
[ -n "$router" ] && ip route add default via "$router" dev "$interface"
ip route add 169.254.169.254 dev "$interface"
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
"""


def build(to: Path) -> tuple[Path, Path]:
    """Make `vmlinuz` and `initrd` in the folder `to`, from packages of this machine's archive.

    Raises:
        Fault: INVALID when a tool is missing; UNAVAILABLE when the archive gives no package.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise Fault(
            Kind.INVALID,
            "The tiny image cannot be made here.",
            why=f"Not installed: {', '.join(missing)}.",
            fix="Do it on Debian, with: apt install cpio",
            code="missing-tools",
        )
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mallee-tiny-") as scratch:
        work = Path(scratch)
        kernel = _unpack(work, "kernel", [_kernel_package()])
        system = _unpack(work, "system", _with_libraries(PACKAGES))
        root = work / "root"
        _fill(root, kernel, system)
        [image] = (kernel / "boot").glob("vmlinuz-*")
        shutil.copyfile(image, to / "vmlinuz")
        _pack(root, to / "initrd")
    return to / "vmlinuz", to / "initrd"


def _kernel_package() -> str:
    """The package that the metapackage stands for today."""
    said = _run("apt-cache", "depends", "--important", KERNEL_PACKAGE)
    found = [word for word in said.split() if word.startswith("linux-image-")]
    if len(found) < 2:  # itself, and the one it depends on
        raise _no_package(KERNEL_PACKAGE, said)
    return found[1]


def _with_libraries(packages: Sequence[str]) -> list[str]:
    said = _run(
        "apt-cache",
        "depends",
        "--recurse",
        *(
            f"--no-{kind}"
            for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        ),
        *packages,
    )
    return sorted({line for line in said.splitlines() if line and not line.startswith((" ", "<"))})


def _unpack(work: Path, name: str, packages: Sequence[str]) -> Path:
    archives, into = work / f"{name}-archives", work / name
    archives.mkdir()
    into.mkdir()
    # apt's own user may not write into a folder that is ours alone; root downloads for itself then.
    _run("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *packages, cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        _run("dpkg-deb", "-x", str(archive), str(into))
    return into


def _fill(root: Path, kernel: Path, system: Path) -> None:
    for folder in ("bin", "sbin", "lib/modules", "etc/acpi/PWRF", "root"):
        (root / folder).mkdir(parents=True)
    shutil.copy2(
        next(path for path in (system / "bin/busybox", system / "usr/bin/busybox") if path.exists()),
        root / "bin",
    )
    shutil.copy2(system / "usr/sbin/dropbear", root / "sbin")
    _copy_libraries(system, root)
    [modules] = (kernel / "lib/modules").iterdir()
    order = _with_needed(modules, MODULES)
    for module in order:
        shutil.copyfile(module, root / "lib/modules" / module.name)
    (root / "lib/modules/order").write_text("".join(f"{module.name}\n" for module in order))
    own = files(__name__)
    _script(root / "init", own.joinpath("init.sh").read_text())
    _script(root / "bin/dirty", own.joinpath("dirty.sh").read_text())
    _script(root / "etc/udhcpc.sh", _DHCP)
    _script(root / "etc/acpi/PWRF/00000080", "#!/bin/sh\npoweroff -f\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shells").write_text("/bin/sh\n")


def _with_needed(modules: Path, names: Sequence[str]) -> list[Path]:
    """The files of these modules, each behind those that it needs; every module names them in itself."""
    by_name = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in order or name not in by_name:  # built into the kernel
            return
        _, _, after = by_name[name].read_bytes().partition(b"\0depends=")
        for needed in after.partition(b"\0")[0].decode().split(","):
            add(needed.replace("-", "_"))
        order[name] = by_name[name]

    for name in names:
        add(name)
    return list(order.values())


def _copy_libraries(system: Path, root: Path) -> None:
    """The shared libraries and their loader, at the paths that the loader knows."""
    target = root / "lib/x86_64-linux-gnu"
    target.mkdir(parents=True)
    (root / "lib64").mkdir()
    wanted = (
        "libc.so.6",
        "libcrypt.so.1",
        "libtomcrypt.so.1",
        "libtommath.so.1",
        "libz.so.1",
        "libgmp.so.10",
    )
    for folder in (system / "lib/x86_64-linux-gnu", system / "usr/lib/x86_64-linux-gnu"):
        for name in wanted:
            if (folder / name).exists() and not (target / name).exists():
                shutil.copyfile(folder / name, target / name)
    loader = next(path for path in system.rglob("ld-linux-x86-64.so.2") if path.is_file())
    shutil.copy2(loader, root / "lib64/ld-linux-x86-64.so.2", follow_symlinks=True)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _pack(root: Path, to: Path) -> None:
    """The tree as the kernel wants it: a cpio archive, compressed. Nothing in it tells when or by whom it was made."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    command = ("cpio", "-o", "-H", "newc", "--quiet", "--reproducible", "-R", "0:0")
    archive = subprocess.run(  # noqa: S603 - our own words only
        command, cwd=root, input="\n".join(names).encode(), capture_output=True, check=True
    ).stdout
    with gzip.GzipFile(to, "wb", mtime=0) as file:
        file.write(archive)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - our own words only
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    if done.returncode:
        raise _no_package(" ".join(command[:2]), done.stderr)
    return done.stdout


def _no_package(what: str, said: str) -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        f"{what} gave nothing.",
        why=said.strip().splitlines()[-1] if said.strip() else "",
        fix="Look at /etc/apt/sources.list, and run: apt-get update",
        code="no-package",
    )
