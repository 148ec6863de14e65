"""The disk fails, fills, and loses its power, at each call in turn: no acknowledged byte is lost, nothing stays behind."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mallee.kernel.db.sqlite import Sqlite
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import STORAGE_FULL, Fault
from mallee.walrus.store import Encryption, Files, Store
from tests.unit.walrus.a_store import BUCKET, a_store, put
from tests.unit.walrus.faulty_files import Countdown, Troubled, Volatile, failing
from tests.unit.walrus.workload import LARGE, STEPS, judge, left_over, state_of, sweep


def nothing_is_coming_in(store: Store) -> bool:
    place = store.ground.blobs
    assert isinstance(place, Files)
    return not place.files.names(place.incoming)


def sync_often(store: Store) -> None:
    """So that objects of the workload are synced while they are written, as large ones are."""
    assert isinstance(store.ground.blobs, Files)
    store.ground.blobs.flush_every = 100_000


async def run_through(store: Store, trouble: Countdown) -> list[Fault]:
    """All steps; one that fails is judged on the spot and made again."""
    faults = []
    sync_often(store)
    for done, step in enumerate(STEPS):
        try:
            await step.run(store)
        except Fault as fault:
            faults.append(fault)
            assert trouble.seen[-1:] == ["unlink"] or nothing_is_coming_in(store)
            await judge(store, done)
            await step.run(store)
        assert await state_of(store, step.key) == step.then
    return faults


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
async def test_each_call_fails_once(tmp_path: Path, number: int) -> None:
    at, codes, calls = 0, set(), set()
    while True:
        at += 1
        trouble = Countdown(at, failing(number))
        async with a_store(tmp_path / f"{at}", files=Troubled(trouble)) as store:
            trouble.armed = True
            faults = await run_through(store, trouble)
            if len(trouble.seen) < at:
                break
            struck = trouble.seen[at - 1]
            calls.add(struck)
            assert len(faults) <= 1
            assert faults or struck in {"unlink", "remove_folder"}, f"call {at}, {struck}, was not heard of"
            codes |= {fault.code for fault in faults}
            await judge(store, len(STEPS))
            await sweep(store)
            assert await left_over(store) == set(), f"call {at}, {struck}"
        shutil.rmtree(tmp_path / f"{at}")
    assert at > 30
    assert calls >= {"create", "write", "fsync", "rename", "make_folder", "fsync_folder"}
    assert codes == {STORAGE_FULL if number == errno.ENOSPC else "blob-store"}


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR])
async def test_each_commit_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    original = Sqlite._commit

    def fail() -> None:
        error = sqlite3.OperationalError("the disk")
        error.sqlite_errorcode = code
        raise error

    at = 0
    while True:
        at += 1
        trouble = Countdown(at, fail)

        async def commit(self: Sqlite, trouble: Countdown = trouble) -> None:
            trouble("commit")
            await original(self)

        monkeypatch.setattr(Sqlite, "_commit", commit)
        async with a_store(tmp_path / f"{at}") as store:
            trouble.armed = True
            faults = await run_through(store, trouble)
            if len(trouble.seen) < at:
                break
            assert len(faults) == 1
            await sweep(store)
            assert await left_over(store) == set()
        shutil.rmtree(tmp_path / f"{at}")
    assert at > len(STEPS)


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8])
async def test_power_is_cut_at_each_call(tmp_path: Path, share: float) -> None:
    """With every name that was not synced lost, and with some of them come through without their bytes."""
    root = tmp_path / "store/objects"
    entropy = SeededEntropy(1)
    cuts: list[tuple[int, Volatile, Path]] = []
    acknowledged = 0

    def keeps() -> bool:
        return entropy.uniform(0, 1) < share

    def cut(name: str) -> None:
        database = tmp_path / f"cut-{len(cuts)}"
        database.mkdir()
        for file in (tmp_path / "store").glob("state.db*"):
            shutil.copy(file, database)
        shutil.copy(tmp_path / "store/keys", database)
        cuts.append((acknowledged, disk.after_power_cut(keeps), database))

    disk = Volatile(root.parent)
    disk.make_folder(root)
    disk.fsync_folder(root.parent)
    async with a_store(tmp_path / "store", files=disk) as store:
        disk._trouble = cut
        sync_often(store)
        for step in STEPS:
            await step.run(store)
            acknowledged += 1
            cut("acknowledged")
        await sweep(store)
        disk._trouble = lambda _: None
    assert len(cuts) > 40
    for done, found, database in cuts:
        found._root = database
        found._top.entries["objects"] = found._top.entries.get("objects") or found._top
        async with a_store(database, files=found) as store:
            await judge(store, done)
            await sweep(store)
            await judge(store, done)
            assert await left_over(store) == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_really_full_disk(small_disk: Path) -> None:
    """An object that does not fit leaves nothing behind, and what fits still fits."""
    async with a_store(small_disk / "store") as store:
        await put(store, "before", LARGE)
        for encryption in (None, Encryption()):
            with pytest.raises(Fault) as caught:
                await put(store, "too-large", bytes(20_000_000), encryption=encryption)
            assert caught.value.code == STORAGE_FULL
            assert nothing_is_coming_in(store)
        await put(store, "after", LARGE)
        assert [entry.key for entry in (await store.list(BUCKET)).entries] == ["after", "before"]
        assert await state_of(store, "before") == LARGE
        assert await left_over(store) == set()
