"""Where a tool reads what a stranger has written: it sees its own files, and can reach nothing else.

As root: namespaces of its own for mounts, processes and network, a root folder with the system's
programs and the files that were handed in, no privilege, bounds on processor, memory and file size.
Elsewhere the bounds alone, and that is said aloud.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from mallee.kernel.errors import STORAGE_FULL, Fault, Kind

_SPACES: Final = ("--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child")
# The files lie in one folder by their own names, so that one may name another that lies beside it.
_SCRIPT: Final = """
set -eu
root=$1; shift
mount -t tmpfs -o mode=755,size=1m,nosuid sandbox "$root"
mkdir "$root/files" "$root/dev"
: > "$root/dev/null"; mount --bind /dev/null "$root/dev/null"
for top in usr bin lib lib64; do
  if [ -L "/$top" ]; then ln -s "$(readlink "/$top")" "$root/$top"
  elif [ -d "/$top" ]; then mkdir "$root/$top"; mount --bind -o ro "/$top" "$root/$top"; fi
done
while [ "$1" != -- ]; do
  file=${1#?:}; at="$root/files/${file##*/}"; : > "$at"
  case "$1" in
    r:*) mount --bind -o ro "$file" "$at" ;;
    w:*) mount --bind "$file" "$at" ;;
  esac
  shift
done
shift
mount -o remount,ro "$root"
exec chroot "$root" "$@"
"""
_WORDS: Final = 4096  # bytes of what a tool said last
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tool may use: seconds of a processor, bytes of address space, bytes of a file that it writes."""

    cpu_seconds: int
    file_bytes: int
    memory_bytes: int = 2 << 30

    def words(self) -> tuple[str, ...]:
        """As `prlimit` takes them."""
        return (
            f"--cpu={self.cpu_seconds}",
            f"--as={self.memory_bytes}",
            f"--fsize={self.file_bytes}",
            "--core=0",
            "--nofile=256",
            "--",
        )


class Sandbox:
    """Runs one tool at a time or several; keeps nothing."""

    def __init__(self) -> None:
        self._closed: bool | None = None

    async def run(
        self,
        command: Sequence[str | Path],
        bounds: Bounds,
        *,
        reads: Sequence[Path] = (),
        writes: Sequence[Path] = (),
        accepts: Collection[int] = frozenset({0}),
    ) -> None:
        """Run a command to its end.

        Args:
            command: its program by name; a `Path` among the words is one of the files below.
            bounds: what it may use.
            reads: with `writes` all that it sees of the host beside its programs; each is there already,
                owned by whom the command is to run as, and has a name of its own.
            writes: what it may change.
            accepts: what it may end with.

        Raises:
            Fault: NO_CAPACITY `storage-full`; INVALID `tool-refused` with its own last words, or
                `over-bounds`; UNAVAILABLE `missing-tools`.
        """
        with tempfile.TemporaryDirectory(prefix="mallee-sandbox-") as root:
            await run(await self._words(command, bounds, reads, writes, root), str(command[0]), accepts)

    async def _words(
        self,
        command: Sequence[str | Path],
        bounds: Bounds,
        reads: Sequence[Path],
        writes: Sequence[Path],
        root: str,
    ) -> list[str]:
        # If we die, it dies: what it was writing is swept, and must not grow any more.
        dies_with_us = ("setpriv", "--pdeathsig", "KILL")
        if not await self._is_closed():
            return [*dies_with_us, "prlimit", *bounds.words(), *(str(word) for word in command)]
        owner = (writes or reads)[0].stat()
        inside = [f"/files/{word.name}" if isinstance(word, Path) else word for word in command]
        files = [*(f"r:{path}" for path in reads), *(f"w:{path}" for path in writes)]
        return [
            *dies_with_us,
            *("unshare", *_SPACES, "--propagation", "private", "sh", "-c", _SCRIPT, "sh", root),
            *(*files, "--", "/usr/bin/setpriv"),
            *(f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--no-new-privs"),
            *("--inh-caps=-all", "--bounding-set=-all", "/usr/bin/prlimit"),
            *bounds.words(),
            *inside,
        ]

    async def _is_closed(self) -> bool:
        """Whether this host lets us make namespaces; asked once."""
        if self._closed is None:
            code, said = 1, "It needs root."
            if os.geteuid() == 0:
                code, said = await _run(["unshare", *_SPACES, "true"])
            self._closed = code == 0
            if code:
                _log.warning(
                    "tools that open images are bounded, but not shut in",
                    why=said.strip(),
                    fix="Run the node controller as root, in a container with CAP_SYS_ADMIN.",
                )
        return self._closed


async def run(words: Sequence[str], tool: str = "", accepts: Collection[int] = frozenset({0})) -> None:
    """Run a command to its end; `tool` is what it is called to people. Raises as `Sandbox.run`."""
    code, said = await _run(words)
    if code not in accepts:
        raise _fault(tool or words[0], code, said)


async def _run(words: Sequence[str]) -> tuple[int, str]:
    """What it ended with, and its last words. Cancelled, it is killed."""
    if shutil.which(words[0]) is None:
        raise _missing(words[0])
    tool = _Tool(words)
    ended: asyncio.Future[tuple[int, str]] = asyncio.ensure_future(tool.ended(asyncio.get_running_loop()))
    try:
        return await asyncio.shield(ended)
    finally:
        if not ended.done():
            tool.kill()
            await asyncio.wait((ended,))


class _Tool:
    """One process, started and waited for in a thread of its own.

    The event loop's own way to start a process forks, and in the child gRPC's handlers of forks run, which
    may kill it before it has begun; `subprocess` does without.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    async def ended(self, loop: asyncio.AbstractEventLoop) -> tuple[int, str]:
        end: asyncio.Future[tuple[int, str]] = loop.create_future()

        def run() -> None:
            try:
                told = partial(end.set_result, self._run())
            except Exception as error:  # noqa: BLE001 - whoever waits for it hears of it
                told = partial(end.set_exception, error)
            loop.call_soon_threadsafe(told)

        # The kernel kills it when this thread ends, which waits for it to the end: see `--pdeathsig`.
        threading.Thread(target=run, name="tool", daemon=True).start()
        return await end

    def kill(self) -> None:
        with self._turn:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def _run(self) -> tuple[int, str]:
        with self._turn:
            if self._killed:
                return -9, ""
            self._process = process = subprocess.Popen(  # noqa: S603 - words of ours, no shell
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        assert process.stderr is not None
        said = b""
        # The end of what it says: a hostile image can make a tool say as much as it likes.
        while some := process.stderr.read1(_WORDS):  # type: ignore[attr-defined]
            said = (said + some)[-_WORDS:]
        process.stderr.close()
        return process.wait(), said.decode(errors="replace")


def _fault(tool: str, code: int, said: str) -> Fault:
    words = "; ".join(said.strip().splitlines()[-2:])[-500:]
    if "failed to execute" in words:
        return _missing(tool)
    if "No space left on device" in words:
        return Fault(
            Kind.NO_CAPACITY,
            "The node's disk is full.",
            why=words,
            fix="Make room on it, or start the instance on another node.",
            code=STORAGE_FULL,
        )
    if code < 0 or code >= 128 or "File too large" in words or "Cannot allocate memory" in words:
        why = words or f"{tool} ended with code {code}."
        return Fault(
            Kind.INVALID,
            "The image takes more than it may to be made ready.",
            why=why,
            fix="Make it smaller, or flatten it first.",
            code="over-bounds",
        )
    return Fault(
        Kind.INVALID,
        f"{tool} refused.",
        why=words,
        fix="Look at the image with `qemu-img check`.",
        code="tool-refused",
    )


def _missing(tool: str) -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        f"{tool} is not installed on the node.",
        fix="apt install qemu-utils util-linux",
        code="missing-tools",
    )
