"""What a pretend guest writes to its console: computed from who it is and when it booted, never stored."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mallee.domain.guest import Guest

RING_BYTES = 64 * 1024
BLANK_SCREEN = base64.b64decode(  # a JPEG of 80 by 48 black points
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////"
    "m8H////6/+b9//j/wAALCAAwAFABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAAAAX/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/AIoAAAAA"
    "AAAAAAAAAAAAAAP/2Q=="
)
_KERNEL = "6.1.0-mallee-fake"


def console(guest: Guest, boots: Sequence[int], ended: str = "") -> bytes:
    """The last 64 KiB of the log of all boots (milliseconds since 1970) and of how it ended."""
    log: list[str] = []
    for number, at_ms in enumerate(boots):
        if number:
            log.append("[  OK  ] Reached target reboot.target - System Reboot.\nreboot: Restarting system\n")
        log.extend(_boot(guest, at_ms, first=number == 0))
    if ended:
        log.append(f"[  OK  ] Reached target poweroff.target - System Power Off.\n{ended}\n")
    return "".join(log).encode()[-RING_BYTES:]


def _boot(guest: Guest, at_ms: int, *, first: bool) -> Iterator[str]:
    when = datetime.fromtimestamp(at_ms / 1000, UTC)
    yield (
        f"[    0.000000] Linux version {_KERNEL} ({guest.architecture}) #1 SMP\n"
        f"[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root={guest.root_device_name or '/dev/sda1'} ro"
        " console=ttyS0\n"
        f"[    0.021337] Memory: {guest.resources.memory_mib * 1024}K available\n"
        f"[    0.042000] smp: Brought up 1 node, {guest.resources.vcpus} CPUs\n"
        f"[    0.310000] eth0: link up, address {guest.mac_address}\n"
        f"[    1.100000] systemd[1]: Hostname set to <{guest.hostname}>.\n"
        f"cloud-init[312]: Cloud-init v. 24.1 running 'init' at {when:%a, %d %b %Y %H:%M:%S +0000}.\n"
        f"ci-info: | eth0 | True | {guest.private_address} | {guest.mac_address} |\n"
    )
    if first:
        yield from _first_boot(guest)
    yield f"cloud-init[401]: Cloud-init v. 24.1 finished at {when:%a, %d %b %Y %H:%M:%S +0000}.\n"
    yield f"\nDebian GNU/Linux 12 {guest.hostname} ttyS0\n\n{guest.hostname} login: \n"


def _first_boot(guest: Guest) -> Iterator[str]:
    host_key = hashlib.sha256(f"host key of {guest.instance_id}".encode()).digest()
    yield "-----BEGIN SSH HOST KEY FINGERPRINTS-----\n"
    yield f"256 SHA256:{base64.b64encode(host_key).decode().rstrip('=')} root@{guest.hostname} (ED25519)\n"
    yield "-----END SSH HOST KEY FINGERPRINTS-----\n"
    if guest.public_key:
        yield f"ci-info: authorized key '{guest.key_name}' {fingerprint(guest.public_key)}\n"
    if guest.user_data.startswith(b"#!"):
        command = guest.user_data.split(b"\n", 1)[0][2:].decode(errors="replace").strip()
        yield f"cloud-init[388]: running user data with {command} ({len(guest.user_data)} bytes)\n"
        # A pretend guest executes nothing: it shows the script as `set -x` would.
        for line in guest.user_data.decode(errors="replace").splitlines()[1:]:
            if line.strip() and not line.startswith("#"):
                yield f"+ {line}\n"
    elif guest.user_data:
        yield f"cloud-init[388]: read {len(guest.user_data)} bytes of user data\n"


def fingerprint(public_key: str) -> str:
    """The SHA-256 fingerprint of a key in OpenSSH form, as `ssh-keygen -l` prints it; '' if it is none."""
    parts = public_key.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, ValueError):
        return ""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
