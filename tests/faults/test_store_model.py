"""Whatever is put, deleted, copied, uploaded and listed, in any order: the store does what a dictionary does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mallee.kernel.clock import ManualClock
from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.reconcile.orphans import Orphans
from mallee.walrus.store import Claim, NewObject, Store
from mallee.walrus.store import completing as completing_room
from tests.unit.walrus.a_store import BUCKET, OWNER, a_store, bytes_of, etag_of, get, put
from tests.unit.walrus.store_model import Model, rolled_up

INLINE = 8  # bytes: so that short data takes both ways
KEYS = ["a", "a/", "a/b", "a/b/c", "b/y/z", "ü", "\U0001f600", "￿"]
keys = st.sampled_from(KEYS)
data = st.binary(max_size=20)
indexes = st.integers(0, 5)
operations = st.one_of(
    st.tuples(st.just("put"), keys, data),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("delete_version"), keys, indexes),
    st.tuples(st.just("copy"), keys, keys),
    st.tuples(st.just("upload"), keys, st.lists(st.binary(min_size=4, max_size=12), min_size=1, max_size=4)),
    st.tuples(st.just("abort"), keys, data),
    st.tuples(st.just("versioning"), st.sampled_from(["Enabled", "Suspended"])),
)
listings = st.tuples(
    st.sampled_from(["", "a", "a/", "a/b", "b/", "ü", "nothing"]),
    st.sampled_from(["", "/", "b", "//"]),
    st.sampled_from(["", "a", "a/", "a/b", "a/zzz", "b/y/"]),
    st.integers(1, 5),
)


class Both:
    """The store and its model, given the same."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.model = Model()

    async def put(self, key: str, data: bytes) -> None:
        version = await put(self.store, key, data)
        self.model.put(key, data, version.version_id)

    async def delete(self, key: str) -> None:
        deleted = await self.store.delete(BUCKET, key, owner=OWNER)
        assert deleted.delete_marker == bool(self.model.versioning)
        self.model.delete(key, deleted.version_id)

    async def delete_version(self, key: str, index: int) -> None:
        kept = self.model.versions.get(key, [])
        if index < len(kept):
            deleted = await self.store.delete(BUCKET, key, kept[index].version_id)
            assert deleted.delete_marker == (kept[index].data is None)
            self.model.delete_version(key, kept[index].version_id)

    async def copy(self, source: str, key: str) -> None:
        data = self.model.visible(source)
        if data is not None:
            found = await self.store.find(BUCKET, source)
            copied = await self.store.copy(found, BUCKET, key, NewObject(OWNER))
            self.model.put(key, data, copied.version_id)

    async def upload(self, key: str, pieces: list[bytes]) -> None:
        upload = await self.store.begin_upload(BUCKET, key, NewObject(OWNER), initiator=OWNER)
        for number, piece in enumerate([b"replaced", *pieces]):
            await self._put_part(upload, max(1, number), piece)
        await self._put_part(upload, 77, b"never claimed")
        claims = [Claim(number, etag_of(piece)) for number, piece in enumerate(pieces, 1)]
        version = await self.store.complete_upload(BUCKET, key, upload.upload_id, claims)
        again = await self.store.complete_upload(BUCKET, key, upload.upload_id, claims)
        assert (again.version_id, again.etag) == (version.version_id, version.etag)
        assert [part.size for part in await self.store.parts_of(version)] == [len(piece) for piece in pieces]
        self.model.put(key, b"".join(pieces), version.version_id)

    async def abort(self, key: str, piece: bytes) -> None:
        upload = await self.store.begin_upload(BUCKET, key, NewObject(OWNER), initiator=OWNER)
        await self._put_part(upload, 3, piece)
        assert (await self.store.usage(BUCKET)).uploading == len(piece)
        await self.store.abort_upload(BUCKET, key, upload.upload_id)

    async def versioning(self, state: Any) -> None:
        await self.store.set_versioning(BUCKET, state)
        self.model.versioning = state

    async def _put_part(self, upload: Any, number: int, piece: bytes) -> None:
        writing = await self.store.begin(len(piece))
        await writing.write(piece)
        await self.store.put_part(upload, number, writing, etag=etag_of(piece))

    async def check(self) -> None:
        for key, kept in self.model.versions.items():
            for version in kept:
                found = await self.store.find(BUCKET, key, version.version_id)
                assert found.is_latest == (version is kept[0])
                assert found.is_delete_marker == (version.data is None)
                if version.data is not None:
                    assert await bytes_of(self.store, found) == version.data
                    if len(version.data) > 2:
                        assert (
                            await bytes_of(self.store, found, 1, len(version.data) - 2) == version.data[1:-1]
                        )
        for key in self.model.visible_keys():
            assert await get(self.store, key) == self.model.visible(key)
        assert tuple(await self.store.usage(BUCKET)) == (*self.model.usage(), 0)

    async def check_listing(self, prefix: str, delimiter: str, after: str, limit: int) -> None:
        found: list[tuple[str, bool]] = []
        at = after
        while True:
            page = await self.store.list(BUCKET, prefix=prefix, delimiter=delimiter, after=at, limit=limit)
            entries = [(entry.key, False) for entry in page.entries]
            entries += [(rolled, True) for rolled in page.prefixes]
            entries.sort(key=lambda entry: entry[0].encode())
            assert len(entries) == limit or (not page.truncated and len(entries) <= limit)
            found += entries
            if not page.truncated:
                break
            assert not found[len(entries) :] or page.next_key.encode() > at.encode(), (
                "a page that goes nowhere"
            )
            at = page.next_key
            assert at == entries[-1][0]
        assert found == rolled_up(self.model.visible_keys(), prefix, delimiter, after)

    async def check_versions(self, prefix: str, limit: int) -> None:
        found: list[tuple[str, str, bool, bool]] = []
        key, version = "", ""
        while True:
            page = await self.store.list_versions(
                BUCKET, prefix=prefix, after=key, after_version=version, limit=limit
            )
            found += [
                (each.key, each.version_id, each.is_latest, each.is_delete_marker) for each in page.entries
            ]
            if not page.truncated:
                break
            assert len(page.entries) == limit
            key, version = page.next_key, page.next_version
        assert found == [each for each in self.model.all_versions() if each[0].startswith(prefix)]

    async def check_nothing_is_left(self, folder: Path, clock: ManualClock) -> None:
        """After the sweeps the files are those of the objects, and without objects there are none."""
        await clock.advance(3600)
        await Garbage(self.store.ground).one_pass()
        await Orphans(self.store.ground).one_pass()
        assert self.store.ground.metrics.orphans == 0, "garbage was listed by what made it"
        await self.check()
        for key, version_id, _, _ in self.model.all_versions():
            await self.store.delete(BUCKET, key, version_id)
        await clock.advance(3600)
        await Garbage(self.store.ground).one_pass()
        await self.store.delete_bucket(BUCKET)
        assert files_below(folder) == []


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def on_a_fresh_store(work: Callable[[Both, Path, ManualClock], Any]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as name:
            clock = ManualClock()
            async with a_store(Path(name), clock=clock, inline=INLINE) as store:
                await work(Both(store), Path(name) / "objects", clock)

    asyncio.run(run())


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing_room, "SMALLEST", 4)


# Shrinking takes minutes where many share a machine; what fails is small enough to read as it is.
@settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(operations, min_size=12, max_size=50), st.lists(listings, min_size=8, max_size=12))
def test_the_store_does_what_a_dictionary_does(
    asked: list[tuple[Any, ...]], listed: list[tuple[str, str, str, int]]
) -> None:
    async def work(both: Both, folder: Path, clock: ManualClock) -> None:
        for name, *arguments in asked:
            await getattr(both, name)(*arguments)
        await both.check()
        for prefix, delimiter, after, limit in [*listed, ("", "/", "", 1), ("a/", "/", "", 2)]:
            await both.check_listing(prefix, delimiter, after, limit)
            await both.check_versions(prefix, limit)
        await both.check_nothing_is_left(folder, clock)

    on_a_fresh_store(work)
