"""How two hosts' QEMUs know each other: by the certificates of their node controllers, over TLS.

The sender proves to be the node that the cluster named, the receiver too; who shows nothing, or is
another node of the cloud, is let go before a page has crossed. QEMU reads its key once, when it is told
of it: the files are there for that moment only.
https://www.qemu.org/docs/master/system/tls.html
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from lxml import etree

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity
from mallee.kernel.rpc.keys import Credentials
from mallee.nc.drivers.libvirt import monitor

CREDENTIALS: Final = "mallee-tls"  # names within one QEMU
SENDER: Final = "mallee-sender"
KEYS_FOLDER: Final = "/etc/pki/qemu"  # where the rules of AppArmor that libvirt brings let QEMU read
_FILES: Final = {
    "server": ("server-cert.pem", "server-key.pem"),
    "client": ("client-cert.pem", "client-key.pem"),
}


@dataclass(frozen=True, slots=True)
class Confidence:
    """What a node shows when its QEMUs talk to others.

    Args:
        me: the node controller.
        credentials: its own of this moment.
        folder: where QEMU may read files.
    """

    me: Identity
    credentials: Callable[[], Credentials]
    folder: Path = Path(KEYS_FOLDER)

    def listen(self, domain: Any, sender: str) -> dict[str, str]:
        """Let a QEMU that will listen take nobody but the node called `sender`. To be called in a thread.

        Returns:
            The same, as what takes disks wants to be told.
        """
        if not sender:
            raise Fault(
                Kind.INVALID,
                "A migration comes from nobody.",
                why="Who sends must be known before this node listens.",
                fix="Bring both nodes and their cluster controller to one version.",
                code="no-sender",
            )
        self._show(domain, "server")
        subject = f"CN={Identity(self.me.cloud, 'nc', sender).common_name}"
        monitor.add_object(domain, "authz-simple", SENDER, identity=subject)
        monitor.set_parameters(domain, tls_creds=CREDENTIALS, tls_authz=SENDER)
        return {"tls-creds": CREDENTIALS, "tls-authz": SENDER}

    def reach(self, domain: Any, receiver: str) -> dict[str, str]:
        """Let a QEMU that will connect send to nobody but the node called `receiver`; see `listen`."""
        self._show(domain, "client")
        [_, name] = Identity(self.me.cloud, "nc", receiver).dns_names
        monitor.set_parameters(domain, tls_creds=CREDENTIALS, tls_hostname=name)
        return {"tls-creds": CREDENTIALS, "tls-hostname": name}

    def _show(self, domain: Any, endpoint: str) -> None:
        home = self.folder / f"mallee-{sha256(f'{domain.UUIDString()} {endpoint}'.encode()).hexdigest()[:12]}"
        forget(domain)
        try:
            self._write(home, endpoint, _user_of(domain))
            # QEMU's own look at them wants a usage that keys of elliptic curves do not have; the peer is
            # verified all the same.
            monitor.add_object(
                domain,
                "tls-creds-x509",
                CREDENTIALS,
                dir=str(home),
                endpoint=endpoint,
                verify_peer=True,
                sanity_check=False,
            )
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def _write(self, home: Path, endpoint: str, user: tuple[int, int]) -> None:
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
        os.chown(home, *user)
        mine = self.credentials()
        certificate, key = _FILES[endpoint]
        for name, content in (
            ("ca-cert.pem", mine.authority),
            (certificate, mine.certificate),
            (key, mine.key),
        ):
            handle = os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "wb") as file:  # noqa: PTH123 - it is open already
                os.fchown(handle, *user)
                file.write(content)


def forget(domain: Any) -> None:
    """Take away what an earlier migration of this QEMU has shown."""
    monitor.set_parameters(domain, tls_creds="", tls_hostname="", tls_authz="")
    for name in (CREDENTIALS, SENDER):
        with suppress(Fault):  # it is not there
            monitor.execute(domain, "object-del", {"id": name})


def _user_of(domain: Any) -> tuple[int, int]:
    """Whose process QEMU is: libvirt says it as `+64055:+106`."""
    labels = etree.fromstring(domain.XMLDesc()).findall("seclabel[@model='dac']/label")
    user, _, group = (labels[0].text or "").replace("+", "").partition(":") if labels else ("", "", "")
    return (int(user), int(group)) if user.isdigit() and group.isdigit() else (0, 0)
