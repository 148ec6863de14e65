"""What QEMU itself is asked, through libvirt: the migration stream, whose switch must wait for the commit.

libvirt's own migration resumes the destination or kills the source as part of one call. Ours stops in
between: both copies whole, both paused, until the cluster controller has moved the placement. So the
two QEMUs are told over their monitors, which libvirt passes on.
https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html#migration
"""

from __future__ import annotations

from typing import Any

import libvirt
import libvirt_qemu
import msgspec

from mallee.kernel.errors import Fault, Kind

Json = dict[str, Any]


def execute(domain: Any, command: str, arguments: Json | None = None) -> Json:
    """One command of QEMU's monitor; returns its answer. To be called in a thread.

    Raises:
        Fault: CONFLICT `monitor-refused`, with QEMU's words.
    """
    answer: Json = ask(domain, command, arguments) or {}
    return answer


def execute_list(domain: Any, command: str) -> list[Json]:
    """One command whose answer is a list."""
    answer: list[Json] = ask(domain, command)
    return answer


def ask(domain: Any, command: str, arguments: Json | None = None) -> Any:
    """One command of QEMU's monitor, whatever its answer is made of; see `execute`."""
    asked: Json = {"execute": command} | ({"arguments": arguments} if arguments else {})
    said = msgspec.json.decode(
        libvirt_qemu.qemuMonitorCommand(domain, msgspec.json.encode(asked).decode(), 0)
    )
    if "error" in said:
        raise Fault(
            Kind.CONFLICT,
            f"QEMU refused {command}.",
            why=str(said["error"].get("desc", said["error"])),
            fix="Look at QEMU's log in /var/log/libvirt/qemu.",
            code="monitor-refused",
        )
    return said.get("return")


def migration(domain: Any) -> Json:
    """QEMU's account of the migration from or into a domain; `status` is '' when there was none."""
    return {"status": ""} | execute(domain, "query-migrate")


def set_capabilities(domain: Any, **wanted: bool) -> None:
    """Switch capabilities of migrations; underscores stand for dashes."""
    listed = [{"capability": name.replace("_", "-"), "state": on} for name, on in wanted.items()]
    execute(domain, "migrate-set-capabilities", {"capabilities": listed})


def set_parameters(domain: Any, **wanted: int | str) -> None:
    """Set parameters of migrations; underscores stand for dashes."""
    execute(domain, "migrate-set-parameters", _dashed(wanted))


def add_object(domain: Any, kind: str, name: str, **properties: int | str) -> None:
    """Make an object of QEMU's; underscores stand for dashes."""
    execute(domain, "object-add", {"qom-type": kind, "id": name} | _dashed(properties))


def _dashed(words: dict[str, int | str]) -> Json:
    return {name.replace("_", "-"): value for name, value in words.items()}


def version(domain: Any) -> tuple[int, int]:
    """Of the QEMU that a domain lives in."""
    said = execute(domain, "query-version")["qemu"]
    return said["major"], said["minor"]


def is_paused(domain: Any) -> bool:
    return bool(domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)
