"""The object store without HTTP: durable PUTs per second and per fsync, reads, and listings of small and large buckets.

    python benches/objects_store.py [--writers 32] [--keys 1000000] [--folder DIR] [--sizes]

A PUT is begin, write, commit: acknowledged when it is durable. Syncs are counted where they are asked for:
commits of the database, files, folders. CPU is this process's, all threads. `--sizes` shows what decides
up to which size an object is kept in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mallee.kernel.clock import SystemClock
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import SystemEntropy
from mallee.kernel.file_system import RealFiles
from mallee.kernel.secrets_box import SecretsBox
from mallee.walrus.db import METADATA, contents, objects
from mallee.walrus.store import Files, Ground, NewObject, Store
from mallee.walrus.store.rows import object_row

OWNER, BUCKET = "111122223333", "bench"


class Counted(RealFiles):
    """The machine's files, with a count of syncs."""

    def __init__(self) -> None:
        self.syncs = 0

    def fsync(self, descriptor: int) -> None:
        self.syncs += 1
        super().fsync(descriptor)

    def fsync_folder(self, path: Path) -> None:
        self.syncs += 1
        super().fsync_folder(path)


@asynccontextmanager
async def a_store(folder: Path, inline: int = 16 * 1024) -> Any:
    await asyncio.to_thread(folder.mkdir)
    entropy, files = SystemEntropy(), Counted()
    db = await Database.open(f"sqlite:///{folder}/state.db", metadata=METADATA)
    place = await Files.start(folder / "objects", files)
    box = SecretsBox.open(folder / "keys", entropy)
    store = Store(Ground(db, place, box, SystemClock(), entropy, inline=inline))
    await store.create_bucket(BUCKET, OWNER, "eu")
    yield store, files
    await db.close()
    await place.close()


async def put(store: Store, key: str, data: bytes, new: NewObject) -> None:
    writing = await store.begin(len(data))
    try:
        await writing.write(data)
        await store.commit(BUCKET, key, writing, new)
    finally:
        await writing.discard()


async def measured(
    name: str, store: Store, files: Counted, count: int, writers: int, once: Callable[[int], Awaitable[Any]]
) -> None:
    numbers: Iterator[int] = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await once(number)

    commits, syncs = store.ground.db.commits, files.syncs
    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*[work() for _ in range(writers)])
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    synced = store.ground.db.commits - commits + files.syncs - syncs
    each = f"{count / synced:6.1f} per fsync" if synced else ""
    print(f"{name:44} {count / wall:9.0f}/s {cpu / count * 1e6:8.0f} us CPU {each}", flush=True)


def new_object(data: bytes) -> NewObject:
    return NewObject(
        OWNER,
        hashlib.md5(data).hexdigest(),
        {"Content-Type": "binary/octet-stream"},
        {"CRC64NVME": "AAAAAAAAAAA="},
        "FULL_OBJECT",
    )


async def puts_and_gets(folder: Path, writers: int) -> None:
    async with a_store(folder / "puts") as (store, files):
        for label, size, count in (("1 KiB", 1024, 6000), ("16 KiB", 16384, 3000), ("128 KiB", 131072, 600)):
            data = bytes(size)
            new = new_object(data)
            for verb in ("new", "over the old"):
                await measured(
                    f"PUT {label}, {verb}, {writers} writers",
                    store, files, count, writers,
                    lambda n, data=data, new=new, label=label: put(store, f"{label}/{n % 2000}", data, new),
                )  # fmt: skip

        async def get(n: int) -> None:
            version = await store.find(BUCKET, f"1 KiB/{n % 2000}")
            reading = await store.read(version)
            async for _ in reading:
                pass
            await reading.aclose()

        await measured("GET 1 KiB", store, files, 6000, 1, get)
        await measured("HEAD", store, files, 6000, 1, lambda n: store.find(BUCKET, f"1 KiB/{n % 2000}"))
        await measured("DELETE 1 KiB, 32 clients", store, files, 2000, 32, lambda n: store.delete(BUCKET, f"1 KiB/{n}"))  # fmt: skip


async def fill(store: Store, keys: int) -> None:
    """Keys of 1,000 folders, straight into the tables."""
    new = new_object(b"")
    number = (await store.head_bucket(BUCKET)).number
    content = contents.ContentRow(b"0" * 16, 1, 1024, 1024, b"", b"", None, b"")
    row = object_row(new, b"", content, "", 0)._replace(bucket=number, version_id="null", rank=-1)
    per_folder = max(1, keys // 1000)
    for at in range(0, keys, 10_000):

        def work(tx: Tx, at: int = at) -> None:
            for each in range(at, min(keys, at + 10_000)):
                key = f"{each // per_folder:04}/{each:08}-some-name.jpg".encode()
                objects.put(tx, row._replace(key=key))

        await store.ground.db.transact(work)


async def listings(folder: Path, keys: int) -> None:
    cpus: dict[tuple[str, int], float] = {}
    stores: dict[int, Any] = {}
    async with a_store(folder / "few") as (few, _), a_store(folder / "many") as (many, _):
        for size, store in ((1000, few), (keys, many)):
            await fill(store, size)
            stores[size] = store
        middle = {1000: "", keys: f"{500:04}/"}
        for name, asked in (
            ("LIST 1,000", lambda store, _: store.list(BUCKET)),
            ("LIST 1,000 from the middle", lambda store, size: store.list(BUCKET, after=middle[size])),
            ("LIST 1,000 common prefixes", lambda store, _: store.list(BUCKET, delimiter="/")),
        ):
            best: dict[int, list[float]] = {size: [] for size in stores}
            for _ in range(40):  # in turns, so that both meet the same machine
                for size, store in stores.items():
                    cpu = time.process_time()
                    page = await asked(store, size)
                    best[size].append(time.process_time() - cpu)
                    assert len(page.entries) + len(page.prefixes) == 1000, page
            cpus |= {(name, size): sorted(each)[len(each) // 2] for size, each in best.items()}
            small, large = cpus[name, 1000], cpus[name, keys]
            print(f"{name:44} {small * 1e3:8.2f} ms of 1,000 {large * 1e3:8.2f} ms of {keys:,}: {large / small:.2f}x", flush=True)  # fmt: skip


async def sizes(folder: Path, writers: int) -> None:
    for size in (4, 8, 16, 32, 64, 128):
        data = bytes(size * 1024)
        new = new_object(data)
        for where, inline in (("database", 1 << 20), ("file", 0)):
            async with a_store(folder / f"{size}-{where}", inline) as (store, files):
                await measured(f"PUT {size} KiB into a {where}", store, files, 600, writers, lambda n, data=data, new=new: put(store, f"{n}", data, new))  # fmt: skip

                async def get(n: int, store: Store = store) -> None:
                    reading = await store.read(await store.find(BUCKET, f"{n}"))
                    async for piece in reading:
                        if not isinstance(piece, memoryview):
                            import os

                            os.close(piece.fd)
                    await reading.aclose()

                await measured(f"GET {size} KiB out of a {where}", store, files, 600, 1, get)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--folder", help="on the disk that is to be measured")
    parser.add_argument("--sizes", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        if chosen.sizes:
            await sizes(Path(name), chosen.writers)
            return
        await puts_and_gets(Path(name), chosen.writers)
        await listings(Path(name), chosen.keys)


if __name__ == "__main__":
    asyncio.run(main())
