"""File systems that misbehave where they are told to: calls that fail or kill, and power that is cut."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mallee.kernel.file_system import Bytes, RealFiles

Trouble = Callable[[str], None]
CHANGING = ("create", "write", "fsync", "rename", "unlink", "make_folder", "remove_folder", "fsync_folder")


class Troubled(RealFiles):
    """The machine's files; `trouble(name)` is called before each call that changes something.

    A write is done by halves, with trouble between them too.
    """

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    def create(self, path: Path) -> int:
        self._trouble("create")
        return super().create(path)

    def write(self, descriptor: int, data: Bytes) -> None:
        self._trouble("write")
        half = len(data) // 2
        super().write(descriptor, memoryview(data)[:half])
        self._trouble("write")
        super().write(descriptor, memoryview(data)[half:])

    def fsync(self, descriptor: int) -> None:
        self._trouble("fsync")
        super().fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._trouble("rename")
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._trouble("unlink")
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self._trouble("make_folder")
        super().make_folder(path)

    def remove_folder(self, path: Path) -> None:
        self._trouble("remove_folder")
        super().remove_folder(path)

    def fsync_folder(self, path: Path) -> None:
        self._trouble("fsync_folder")
        super().fsync_folder(path)


class Countdown:
    """Trouble at call number `at`, once; `seen` names the calls up to it."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self._at = at
        self._act = act
        self._lock = threading.Lock()
        self.armed = False
        self.seen: list[str] = []

    def __call__(self, name: str) -> None:
        if not self.armed:
            return
        with self._lock:
            self.seen.append(name)
            strike = len(self.seen) == self._at
        if strike:
            self._act()


def failing(number: int) -> Callable[[], None]:
    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class _Folder:
    entries: dict[str, _File | _Folder] = field(default_factory=dict)
    synced: dict[str, _File | _Folder] = field(default_factory=dict)


class Volatile:
    """Files in memory that know what is durable: what was synced, and no more.

    `after_power_cut` is the disk as it may be found then. What was not synced is lost, or, where
    `keeps` says so, an unsynced name has come through without the bytes of its file - which is what
    disks that reorder do.
    """

    def __init__(self, root: Path, trouble: Trouble | None = None) -> None:
        self._root = root
        self._top = _Folder()
        self._open: dict[int, _File] = {}
        self._numbers = itertools.count(1000)
        self._lock = threading.RLock()
        self._trouble = trouble or (lambda _: None)

    def create(self, path: Path) -> int:
        self._trouble("create")
        with self._lock:
            entries = self._folder(path.parent).entries
            if path.name in entries:
                raise FileExistsError(errno.EEXIST, "there is one", str(path))
            entries[path.name] = made = _File()
            return self._descriptor(made)

    def open(self, path: Path) -> int:
        with self._lock:
            found = self._folder(path.parent).entries.get(path.name)
            if not isinstance(found, _File):
                raise FileNotFoundError(errno.ENOENT, "there is none", str(path))
            return self._descriptor(found)

    def write(self, descriptor: int, data: Bytes) -> None:
        self._trouble("write")
        with self._lock:
            self._open[descriptor].data += data

    def read_into(self, descriptor: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        with self._lock:
            found = bytes(self._open[descriptor].data[offset : offset + len(buffers[0])])
            buffers[0][: len(found)] = found
            return len(found)

    read_cached = read_into

    def fsync(self, descriptor: int) -> None:
        self._trouble("fsync")
        with self._lock:
            file = self._open[descriptor]
            file.synced = bytes(file.data)

    def let_go(self, descriptor: int) -> None:
        """Nothing here is read from a disk."""

    def close(self, descriptor: int) -> None:
        with self._lock:
            del self._open[descriptor]

    def rename(self, old: Path, new: Path) -> None:
        self._trouble("rename")
        with self._lock:
            target = self._folder(new.parent).entries
            target[new.name] = self._folder(old.parent).entries.pop(old.name)

    def unlink(self, path: Path) -> None:
        self._trouble("unlink")
        with self._lock:
            entries = self._folder(path.parent).entries
            if path.name not in entries:
                raise FileNotFoundError(errno.ENOENT, "there is none", str(path))
            del entries[path.name]

    def make_folder(self, path: Path) -> None:
        self._trouble("make_folder")
        with self._lock:
            self._folder(path.parent).entries.setdefault(path.name, _Folder())

    def remove_folder(self, path: Path) -> None:
        self._trouble("remove_folder")
        with self._lock:
            if self._folder(path).entries:
                raise OSError(errno.ENOTEMPTY, "not empty", str(path))
            del self._folder(path.parent).entries[path.name]

    def fsync_folder(self, path: Path) -> None:
        self._trouble("fsync_folder")
        with self._lock:
            folder = self._folder(path)
            folder.synced = dict(folder.entries)

    def names(self, path: Path) -> list[str]:
        with self._lock:
            return list(self._folder(path).entries)

    def after_power_cut(self, keeps: Callable[[], bool]) -> Volatile:
        """What the next start finds."""
        with self._lock:
            found = Volatile(self._root)
            found._top = _survives(self._top, keeps)
            return found

    def _folder(self, path: Path) -> _Folder:
        at = self._top
        for name in path.relative_to(self._root).parts:
            below = at.entries.get(name)
            if not isinstance(below, _Folder):
                raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path))
            at = below
        return at

    def _descriptor(self, file: _File) -> int:
        number = next(self._numbers)
        self._open[number] = file
        return number


def _survives(folder: _Folder, keeps: Callable[[], bool]) -> _Folder:
    names = dict(folder.synced)
    for name in {*folder.entries, *folder.synced}:
        if folder.entries.get(name) is not folder.synced.get(name) and keeps():
            if name in folder.entries:
                names[name] = folder.entries[name]
            else:
                del names[name]
    found = {
        name: _survives(entry, keeps)
        if isinstance(entry, _Folder)
        else _File(bytearray(entry.synced), entry.synced)
        for name, entry in names.items()
    }
    return _Folder(found, dict(found))
