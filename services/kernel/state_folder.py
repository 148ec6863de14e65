"""The folder that holds one service's state: one process at a time, and files that are whole.

The lock is the kernel's (flock), so it ends with the process however the process ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind


class Lock:
    """Held until `release`, the end of a `with`, or the death of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let the next process in. May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock(folder: Path) -> Lock:
    """Take `folder` (made if it is missing, its owner's alone) for this process.

    Faults: CONFLICT if another process holds it, with that process's number; INVALID if the
    folder cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Fault(
            Kind.INVALID,
            f"The state folder {folder} cannot be used.",
            why=f"{error.strerror}.",
            fix="Name a folder that this user may write.",
            code="state-folder",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = (
            os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "that has not said its number"
        )
        os.close(descriptor)
        raise Fault(
            Kind.CONFLICT,
            f"The state folder {folder} is in use.",
            why=f"Process {holder} holds it.",
            fix="End that process first, or name another folder.",
            code="state-folder-locked",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return Lock(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """For a moment the only process in here, in a folder (made if it is missing) that several share; waits (blocks)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def own_id(folder: Path, entropy: Entropy) -> str:
    """What this folder is called among others that keep the state of the same service, for ever.

    To be asked for with the folder's lock: whoever carries the same id after that has outlived its owner.
    """
    path = folder / "id"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(path, entropy.token(16).hex().encode() + b"\n")
    return path.read_text().strip()


def create(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write `content` whole where no file is yet; one that is there is left as it is, also by a race.

    Durable when it returns. The folder exists.
    """
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    replace(passing, content, mode=mode)
    try:
        path.hardlink_to(passing)
    except FileExistsError:
        return
    finally:
        passing.unlink()
    _sync(path.parent)


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write `content` so that after any crash the file is wholly the old or wholly the new one.

    Durable when it returns. Blocks for two fsyncs.
    """
    passing = path.with_name(f".{path.name}.new")
    passing.unlink(missing_ok=True)
    descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    passing.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
