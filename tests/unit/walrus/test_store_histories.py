"""Concurrent clients see each key change at one moment, whatever they do to it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault
from mallee.walrus.errors import S3Error
from mallee.walrus.store import Claim, Conditions, NewObject, Store
from mallee.walrus.store.checksums import etag_of_parts
from tests.unit.walrus.a_store import BUCKET, OWNER, a_store, etag_of, get, put
from tests.unit.walrus.histories import Call, is_linearizable

KEYS = ("a", "b")
CLIENTS, CALLS = 6, 25


def shown_etag(data: bytes) -> str:
    return etag_of_parts([etag_of(data)]) if data.startswith(b"uploaded") else etag_of(data)


def apply(state: bytes | None, name: str, argument: Any) -> tuple[Any, bytes | None]:
    """A register that may be empty."""
    match name:
        case "get":
            return state, state
        case "list":
            return (shown_etag(state) if state is not None else None), state
        case "put":
            return None, argument
        case "create":
            return ("refused", state) if state is not None else ("made", argument)
        case "swap":
            expected, data = argument
            matches = state is not None and shown_etag(state) == expected
            return ("swapped", data) if matches else ("refused", state)
        case _:
            return None, None


class Client:
    def __init__(self, number: int, store: Store, recorder: Recorder) -> None:
        self.number = number
        self.store = store
        self.recorder = recorder
        self.entropy = SeededEntropy(number)
        self.seen: dict[str, str] = {}

    async def run(self) -> None:
        names = ("get", "get", "list", "put", "large", "upload", "create", "swap", "delete")
        for count in range(CALLS):
            key = KEYS[int(self.entropy.uniform(0, len(KEYS)))]
            name = names[int(self.entropy.uniform(0, len(names)))]
            mark = "uploaded" if name == "upload" else "put"
            data = f"{mark}-{self.number}-{count}".encode() * (5000 if name in {"large", "upload"} else 1)
            await self.once(key, name, data)

    async def once(self, key: str, name: str, data: bytes) -> None:
        argument: Any = data
        if name == "swap":
            argument = (self.seen.get(key, ""), data)
        began = self.recorder.tick()
        try:
            answer = await getattr(self, name)(key, argument)
            ended: int | None = self.recorder.tick()
        except Fault:
            answer, ended = None, None  # it may have happened, or never
        recorded = {"large": "put", "upload": "put"}.get(name, name)
        self.recorder.history[key].append(Call(began, ended, recorded, argument, answer))

    async def get(self, key: str, _: Any) -> bytes | None:
        try:
            found = await get(self.store, key)
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return None
        self.seen[key] = shown_etag(found)
        return found

    async def list(self, key: str, _: Any) -> str | None:
        page = await self.store.list(BUCKET, prefix=key, limit=1)
        return page.entries[0].etag if page.entries else None

    async def put(self, key: str, data: bytes) -> None:
        await put(self.store, key, data)

    large = put

    async def upload(self, key: str, data: bytes) -> None:
        upload = await self.store.begin_upload(BUCKET, key, NewObject(OWNER), initiator=OWNER)
        writing = await self.store.begin(len(data))
        await writing.write(data)
        await self.store.put_part(upload, 1, writing, etag=etag_of(data))
        await self.store.complete_upload(BUCKET, key, upload.upload_id, [Claim(1, etag_of(data))])

    async def create(self, key: str, data: bytes) -> str:
        return await self._conditional(key, data, Conditions(if_none_match="*"), "made")

    async def swap(self, key: str, argument: tuple[str, bytes]) -> str:
        return await self._conditional(key, argument[1], Conditions(if_match=argument[0]), "swapped")

    async def delete(self, key: str, _: Any) -> None:
        await self.store.delete(BUCKET, key)

    async def _conditional(self, key: str, data: bytes, conditions: Conditions, done: str) -> str:
        try:
            await put(self.store, key, data, conditions=conditions)
        except S3Error as error:
            if error.code not in {"PreconditionFailed", "NoSuchKey"}:
                raise
            return "refused"
        return done


class Recorder:
    def __init__(self) -> None:
        self._ticks = 0
        self.history: dict[str, list[Call]] = defaultdict(list)

    def tick(self) -> int:
        self._ticks += 1
        return self._ticks


async def test_concurrent_clients(tmp_path: Path, database_url: str) -> None:
    recorder = Recorder()
    async with a_store(tmp_path / "store", url=database_url, durable=True) as store:
        await asyncio.gather(*[Client(number, store, recorder).run() for number in range(CLIENTS)])
    for key in KEYS:
        history = recorder.history[key]
        assert len(history) > CLIENTS
        assert is_linearizable(history, apply, None)


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([Call(1, 2, "put", b"x", None), Call(3, 4, "get", None, b"x")], True),
        ([Call(1, 2, "put", b"x", None), Call(3, 4, "get", None, None)], False),  # a stale read
        ([Call(1, 4, "put", b"x", None), Call(2, 3, "get", None, None)], True),
        ([Call(1, None, "put", b"x", None), Call(2, 3, "get", None, None)], True),
        (
            [Call(1, None, "put", b"x", None), Call(2, 3, "get", None, b"x"), Call(4, 5, "get", None, None)],
            False,
        ),
        ([Call(1, 3, "create", b"x", "made"), Call(2, 4, "create", b"y", "made")], False),  # two winners
        ([Call(1, 3, "create", b"x", "made"), Call(2, 4, "create", b"y", "refused")], True),
    ],
)
def test_the_checker_can_tell(history: list[Call], verdict: bool) -> None:
    assert is_linearizable(history, apply, None) is verdict
