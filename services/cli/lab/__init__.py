"""Several hosts on one machine: each a network namespace with a libvirt daemon of its own.

What teaches and tests live migration without a second machine. A host sees its own /run/libvirt, /var/lib/libvirt, /var/log/libvirt and /etc/libvirt, bound over the
machine's in a mount namespace; their addresses meet on a bridge that stands in a namespace too, so
nothing of it is in the machine's own network. When it is left, also by an error, every process
that was started is ended and every namespace removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from mallee.kernel.clock import SystemClock

_TOOLS: Final = ("ip", "unshare", "libvirtd", "virsh", "virtlogd", "qemu-system-x86_64", "qemu-img")
_FOLDERS: Final = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
    "etc": "/etc/libvirt",
}
_QEMU_CONF: Final = """
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
"""
_PATIENCE: Final = 20.0


def missing() -> str:
    """Why real hosts cannot be made here; '' when they can."""
    if os.geteuid() != 0:
        return "real hosts need root"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if find_spec("libvirt") is None:
        return "libvirt-python is not installed: pip install 'mallee[libvirt]'"
    return ""


@dataclass(frozen=True, slots=True)
class Host:
    """One of them.

    Attributes:
        netns: the name of its network namespace.
        address: on the network that the hosts share.
        folder: everything of it that is on disk.
    """

    netns: str
    address: str
    folder: Path

    @property
    def uri(self) -> str:
        """Of its libvirt daemon, from outside of its namespaces."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt-sock"

    def said(self, *command: str) -> str:
        """What a command prints in the host's network."""
        return _run("ip", "netns", "exec", self.netns, *command).stdout

    def daemon_pid(self) -> int:
        return int((self.folder / "libvirtd.pid").read_text())

    def start_daemon(self) -> None:
        """Start its libvirt daemon, or start it again; its guests live on meanwhile."""
        binds = " && ".join(
            f"mkdir -p {there} && mount --bind {self.folder / here} {there}"
            for here, there in _FOLDERS.items()
        )
        log = f"(test -e {self.folder}/virtlogd.pid || virtlogd -d -p {self.folder}/virtlogd.pid)"
        script = f"{binds} && {log} && exec libvirtd -d -p {self.folder}/libvirtd.pid"
        private = ["unshare", "-m", "-u", "--propagation", "private", "sh", "-c", script]
        with (self.folder / "daemons.log").open("ab") as log_file:
            # To a file: a daemon keeps its standard output for ever, and a pipe would be waited for.
            _run("ip", "netns", "exec", self.netns, *private, log=log_file)
        until(lambda: _answers(self.uri), f"the libvirt daemon of {self.netns}")

    def kill_daemon(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End its libvirt daemon; guests go on."""
        pid = self.daemon_pid()
        os.kill(pid, how)
        until(lambda: not _lives(pid), f"the end of process {pid}")
        (self.folder / "libvirtd.pid").unlink(missing_ok=True)


# A block for each process: two of them may make hosts at the same time, and be reached from the one machine.
_BLOCK: Final = f"10.91.{os.getpid() % 250}"
MACHINE: Final = f"{_BLOCK}.254"  # the machine itself on the hosts' network, where it is asked for


@contextmanager
def some_hosts(count: int, folder: Path, *, uplink: bool = False) -> Iterator[Sequence[Host]]:
    """`count` hosts that reach each other; with `uplink` the machine reaches them too, at `MACHINE`."""
    # The process and a part of the folder's name: two of them may be under way.
    prefix = f"mal{os.getpid() % 100_000}{sha256(str(folder).encode()).hexdigest()[:3]}"
    bridge = f"{prefix}br"
    hosts = [Host(f"{prefix}h{n}", f"{_BLOCK}.{n + 1}", folder / f"host{n}") for n in range(count)]
    with ExitStack() as stack:
        _add_namespace(bridge, stack)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "link", "set", "br0", "up")
        if uplink:
            near, far = f"{prefix}up", f"{prefix}dn"
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", bridge)
            stack.callback(_ip, "link", "del", near)
            _ip("-n", bridge, "link", "set", far, "master", "br0", "up")
            _ip("addr", "add", f"{MACHINE}/24", "dev", near)
            _ip("link", "set", near, "up")
        for number, host in enumerate(hosts):
            _add_namespace(host.netns, stack)
            _plug_in(host, bridge, number, prefix)
            _make_folders(host)
            stack.callback(_end_processes, host)
            host.start_daemon()
        yield hosts


def _add_namespace(name: str, stack: ExitStack) -> None:
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _plug_in(host: Host, bridge: str, number: int, prefix: str) -> None:
    inner, outer = f"{prefix}i{number}", f"{prefix}o{number}"
    _ip("link", "add", inner, "netns", host.netns, "type", "veth", "peer", "name", outer, "netns", bridge)
    _ip("-n", bridge, "link", "set", outer, "master", "br0", "up")
    _ip("-n", host.netns, "addr", "add", f"{host.address}/24", "dev", inner)
    _ip("-n", host.netns, "link", "set", inner, "up")


def _make_folders(host: Host) -> None:
    for name in _FOLDERS:
        (host.folder / name).mkdir(parents=True)
    shutil.copytree("/etc/libvirt", host.folder / "etc", dirs_exist_ok=True)
    uuid = Path("/proc/sys/kernel/random/uuid").read_text().strip()
    # Daemons with one machine's identity would refuse to migrate to each other.
    (host.folder / "etc" / "libvirtd.conf").write_text(
        f'listen_tls = 0\nlisten_tcp = 0\nauth_unix_rw = "none"\nhost_uuid = "{uuid}"\n'
    )
    (host.folder / "etc" / "qemu.conf").write_text(_QEMU_CONF)


def _end_processes(host: Host) -> None:
    """Everything that lives in the host's network: its daemons, its guests, whatever else was started in it."""
    pids = [int(word) for word in _run("ip", "netns", "pids", host.netns).stdout.split()]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(_lives(pid) for pid in pids), f"the end of the processes of {host.netns}")


def _answers(uri: str) -> bool:
    return _run("virsh", "-c", uri, "version", check=False).returncode == 0


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
    """Wait for a condition. Raises TimeoutError, which says what did not come."""
    clock, pause = SystemClock(), threading.Event()
    end = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        pause.wait(0.02)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(
    *words: str, check: bool = True, log: IO[bytes] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the machine's own tools, and words of ours
        words, check=check, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True
    )
