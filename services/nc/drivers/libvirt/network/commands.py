"""The tools that change a host's network: one call of each for all that there is to do."""

from __future__ import annotations

import asyncio
import subprocess

from mallee.kernel.errors import Fault, Kind


async def run(*command: str, stdin: str = "", check: bool = True) -> bool:
    """Run a tool to its end; whether it succeeded.

    Raises:
        Fault: UNAVAILABLE `missing-tools`; `network-failed` when it fails and `check` is set.
    """
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise Fault(
            Kind.UNAVAILABLE,
            f"{command[0]} is not installed.",
            fix="apt install iproute2 nftables dnsmasq-base",
            code="missing-tools",
        ) from error
    if check and done.returncode:
        raise Fault(
            Kind.UNAVAILABLE,
            "The host's network could not be changed.",
            why=f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()[:500]}",
            fix="The node controller must run as root; run: mallee doctor",
            code="network-failed",
        )
    return done.returncode == 0
