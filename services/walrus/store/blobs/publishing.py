"""Giving finished files their names, durably, many at a time.

A new name is durable when its folder was synced; one sync covers all names that came meanwhile.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from mallee.kernel.db import outlast, settle
from mallee.kernel.file_system import FileSystem
from mallee.kernel.threads import Threads


class _Named(NamedTuple):
    old: Path
    new: Path
    waiter: asyncio.Future[None]


class Publisher:
    """Renames what is synced into folders below `root`, which it makes where they are missing."""

    def __init__(self, root: Path, files: FileSystem, threads: Threads) -> None:
        self._root = root
        self._files = files
        self._threads = threads
        self._waiting: list[_Named] = []
        self._running: asyncio.Task[None] | None = None
        self._known: set[Path] = set()

    async def publish(self, old: Path, new: Path) -> None:
        """`old` is `new` from here on, whatever happens. Raises OSError; either name may exist then."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Named(old, new, waiter))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await waiter

    def forget(self, folder: Path) -> None:
        """The folder may have been removed."""
        self._known.discard(folder)

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                errors = await outlast(self._threads.begin(self._publish, group))
                for named in group:
                    settle(named.waiter, None, errors.get(named.new))
        finally:
            self._running = None

    def _publish(self, group: list[_Named]) -> dict[Path, OSError]:
        """Rename all, then sync each folder once; what went wrong, by new name."""
        errors: dict[Path, OSError] = {}
        folders: dict[Path, list[Path]] = {}
        for named in group:
            try:
                self._rename(named.old, named.new)
                folders.setdefault(named.new.parent, []).append(named.new)
            except OSError as error:
                errors[named.new] = error
        for folder, names in folders.items():
            try:
                self._files.fsync_folder(folder)
            except OSError as error:
                errors |= dict.fromkeys(names, error)
        return errors

    def _rename(self, old: Path, new: Path) -> None:
        if new.parent in self._known:
            try:
                self._files.rename(old, new)
            except FileNotFoundError:  # the folder was empty for a moment, and removed
                self._known.discard(new.parent)
            else:
                return
        self._files.make_folder(new.parent)
        self._files.fsync_folder(self._root)
        self._files.rename(old, new)
        self._known.add(new.parent)
