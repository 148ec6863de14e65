"""Who uses the object store, a few keys that several of them write, and what they were promised.

Nobody writes the same bytes twice, so an answer says whose write it is (`store_history.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.reconcile.orphans import Orphans
from mallee.walrus.store import Store
from tests.sim.client import Key
from tests.sim.invariants import Invariants
from tests.sim.objects import SMALLEST_PART
from tests.sim.store_client import NOTHING, Answer, StoreClient
from tests.sim.store_history import StoreHistory, Where, bytes_of, etag_of
from tests.sim.world import World
from tests.unit.walrus.workload import left_over

PLAIN, VERSIONED = "pictures", "drawings"
KEYS = ("a", "b/c", "b/d")
SIZES = (20, 900, 1100, 5000, 40_000)
ATTEMPTS = 3
Deed = Callable[[Where], Awaitable[object]]
PATIENCE = 40.0  # seconds in which a store that nothing troubles must have answered

_upload_id = re.compile(rb"<UploadId>([^<]+)</UploadId>").search
_entries = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL).findall
_key_in = re.compile(rb"<Key>([^<]+)</Key>").search
_etag_in = re.compile(rb"<ETag>([^<]+)</ETag>").search


class StoreUser:
    """One client of the store, which does one thing after another.

    Args:
        history: of all users of the store.
    """

    def __init__(self, world: World, name: str, key: Key, watch: Invariants, history: StoreHistory) -> None:
        self.world = world
        self.name = name
        self.client = StoreClient(world, name, key)
        self.watch = watch
        self.history = history
        self.chance = world.chance(f"store user {name}")
        self._words = 0
        self._seen: dict[Where, tuple[str, str]] = {}  # word and ETag

    async def live(self, deeds: int) -> None:
        pause = self.chance.choice([0.1, 0.5, 2.0])
        every: list[Deed] = [self.put, self.put, self.get, self.get, self.list_]
        every += [self.delete, self.create, self.swap, self.upload]
        some = self.chance.sample(every, 6)
        for _ in range(deeds):
            await asyncio.sleep(self.chance.expovariate(1 / pause))
            where = self.chance.choice([PLAIN, PLAIN, VERSIONED]), self.chance.choice(KEYS)
            at_once = self.chance.choice([1, 1, 1, 4])
            await asyncio.gather(*(self.chance.choice(some)(where) for _ in range(at_once)))

    async def make_buckets(self) -> None:
        """Before any trouble."""
        await self._insist("PUT", f"/{PLAIN}")
        await self._insist("PUT", f"/{VERSIONED}")
        enabled = (
            b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<Status>Enabled</Status></VersioningConfiguration>"
        )
        await self._insist("PUT", f"/{VERSIONED}", {"versioning": ""}, enabled)

    # What changes a key.

    async def put(self, where: Where) -> None:
        word, data = self._fresh()
        await self._write(where, "put", word, word, data, {})

    async def create(self, where: Where) -> None:
        """Only where there is none."""
        word, data = self._fresh()
        await self._write(where, "create", word, word, data, {"If-None-Match": "*"})

    async def swap(self, where: Where) -> None:
        """Only where that is which was seen."""
        if where in self._seen:
            before, etag = self._seen[where]
            word, data = self._fresh()
            await self._write(where, "swap", (before, word), word, data, {"If-Match": etag})

    async def delete(self, where: Where) -> None:
        for _ in range(self._attempts()):
            began = self.history.tick()
            answer = self._judged(await self.client.once("DELETE", _path(where)), {204}, "DELETE")
            if not answer.refused:
                self.history.note(where, began, "delete", None, None, known=answer.is_known)
            if answer.is_known:
                return
            await self._wait()

    async def upload(self, where: Where) -> None:
        """In parts, which appear together or not at all; now and then it is given up."""
        began = await self._ask("POST", _path(where), {"uploads": ""})
        if began is None or (found := _upload_id(began.body)) is None:
            return
        upload = {"uploadId": found[1].decode()}
        word = self._word()
        data = bytes_of(word, self.chance.choice([3000, 9000, 30_000]))
        step = max(SMALLEST_PART, len(data) // 3)
        etags = []
        for number, at in enumerate(range(0, len(data), step), 1):
            part = data[at : at + step]
            answer = await self._ask("PUT", _path(where), {**upload, "partNumber": str(number)}, part)
            if answer is None:
                return
            if answer.headers.get(b"etag", b"").decode() != etag_of(part):
                self.watch.broken("I13", f"part {number} of {word} was answered {answer.headers}")
            etags.append(answer.headers[b"etag"].decode())
        if self.chance.random() < 0.15:
            await self._ask("DELETE", _path(where), upload, expected={204, 404})  # 404: done already
            return
        await self._complete(where, upload, word, etags)

    async def _complete(self, where: Where, upload: dict[str, str], word: str, etags: list[str]) -> None:
        """However often it is asked for, it happens once."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        tick, answer, asked = self.history.tick(), NOTHING, False
        for _ in range(self._attempts()):
            answer = await self.client.once("POST", _path(where), upload, document)
            asked = asked or not answer.refused
            if answer.status == 200 and b"<Error>" in answer.body:
                answer = NOTHING  # its head was out before it failed
            self._judged(answer, {200}, "CompleteMultipartUpload")
            if answer.is_known:
                break
            await self._wait()
        if asked:
            self.history.note(where, tick, "put", word, "made", known=answer.status == 200)
        self._remember(where, word, answer)

    # What looks.

    async def get(self, where: Where) -> None:
        began = self.history.tick()
        answer = self._judged(await self.client.once("GET", _path(where)), {200, 404}, "GET")
        if answer.is_known:
            self._note_read(where, began, answer)

    async def list_(self, where: Where) -> None:
        """What a listing says of every key, at one moment."""
        bucket, _ = where
        began = self.history.tick()
        answer = self._judged(await self.client.once("GET", f"/{bucket}", {"list-type": "2"}), {200}, "LIST")
        if answer.is_known:
            self.note_listed(bucket, began, answer)

    def note_listed(self, bucket: str, began: int, answer: Answer) -> None:
        for key in KEYS:
            there = [each for each in _entries(answer.body) if (k := _key_in(each)) and k[1].decode() == key]
            if len(there) > 1:
                self.watch.broken("I14", f"{bucket}/{key} is listed {len(there)} times")
            self.history.note((bucket, key), began, "listed", bool(there), bool(there), known=True)

    def _note_read(self, where: Where, began: int, answer: Answer) -> None:
        word = None
        if answer.status == 200:
            etag = answer.headers.get(b"etag", b"").decode()
            word = self.history.word_in(where, answer.body, etag)
            self._seen[where] = word, etag
        self.history.note(where, began, "get", None, word, known=True)

    # At rest.

    async def read_all(self) -> None:
        """Everything once more, when nothing is in the way: what was acknowledged, and every version that was."""
        for where in [(bucket, key) for bucket in (PLAIN, VERSIONED) for key in KEYS]:
            began = self.history.tick()
            self._note_read(where, began, await self._insist("GET", _path(where), expected={200, 404}))
        for bucket in (PLAIN, VERSIONED):
            began = self.history.tick()
            self.note_listed(bucket, began, await self._insist("GET", f"/{bucket}", {"list-type": "2"}))
        for (where, version), word in self.history.versions.items():
            answer = await self._insist("GET", _path(where), {"versionId": version}, expected={200, 404})
            found = self.history.word_in(where, answer.body, '"-"') if answer.status == 200 else None
            if found != word:
                self.watch.broken("I12", f"version {version} of {'/'.join(where)} was {word} and is {found}")

    async def _insist(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        expected: frozenset[int] | set[int] = frozenset({200}),
    ) -> Answer:
        end = self.world.loop.now + PATIENCE
        while self.world.loop.now < end:
            answer = self._judged(await self.client.once(method, path, query, body), expected, method)
            if answer.is_known:
                return answer
            await asyncio.sleep(0.5)
        self.watch.broken("I22", f"{method} {path} is not answered")
        return NOTHING

    # All the rest.

    async def _write(
        self, where: Where, name: str, argument: Any, word: str, data: bytes, headers: dict[str, str]
    ) -> None:
        for _ in range(self._attempts()):
            began = self.history.tick()
            answer = await self.client.once("PUT", _path(where), None, data, headers)
            self._judged(answer, {200, 404, 409, 412} if headers else {200}, name)
            # A conflict says that somebody else was writing: nothing was done, and nothing is said of the key.
            if answer.status != 409 and not answer.refused:
                said = {200: "made", 412: "refused", 404: "absent"}.get(answer.status, "")
                self.history.note(where, began, name, argument, said, known=answer.is_known)
            if answer.status == 200 and answer.headers.get(b"etag", b"").decode() != etag_of(data):
                self.watch.broken("I13", f"{word} was put and answered {answer.headers}")
            self._remember(where, word, answer)
            if answer.is_known:
                return
            await self._wait()

    def _remember(self, where: Where, word: str, answer: Answer) -> None:
        version = answer.headers.get(b"x-amz-version-id", b"").decode()
        if answer.status == 200 and version:
            self.history.versions[where, version] = word

    async def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: bytes = b"",
        *,
        expected: frozenset[int] | set[int] = frozenset({200}),
    ) -> Answer | None:
        for _ in range(self._attempts()):
            answer = self._judged(await self.client.once(method, path, query, body), expected, method)
            if answer.is_known:
                return answer if answer.status in expected else None
            await self._wait()
        return None

    def _judged(self, answer: Answer, expected: frozenset[int] | set[int], name: str) -> Answer:
        """The answer; one that nobody may get is a violation."""
        if answer.status and answer.status not in expected and answer.status != 503:
            self.watch.broken("I18", f"{name} was answered {answer.status} {answer.body[:300]!r}")
        return answer

    def _attempts(self) -> int:
        return self.chance.choice([1, ATTEMPTS, ATTEMPTS])

    async def _wait(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.05, 2.0))

    def _fresh(self) -> tuple[str, bytes]:
        word = self._word()
        return word, bytes_of(word, self.chance.choice(SIZES))

    def _word(self) -> str:
        self._words += 1
        return f"{self.name}-{self._words}"


def _path(where: Where) -> str:
    return f"/{where[0]}/{where[1]}"


async def sweep_and_look(store: Store, owner: str) -> list[str]:
    """What the store has left over when all its sweeps have run: in the store's own process."""
    found = []
    for bucket in (PLAIN, VERSIONED):
        for upload in (await store.list_uploads(bucket)).uploads:
            await store.abort_upload(bucket, upload.key, upload.upload_id)
    await Garbage(store.ground, grace=-1).one_pass()
    await Orphans(store.ground, grace=-1).one_pass()
    if left := await left_over(store):
        found.append(f"bytes are left over or missing: {sorted(each.hex() for each in left)}")
    used = await store.usage_of_account(owner)
    for bucket in (PLAIN, VERSIONED):
        entries = [each for each in (await store.list_versions(bucket)).entries if not each.is_delete_marker]
        counted = (len(entries), sum(each.size for each in entries))
        if tuple(used[bucket])[:2] != counted:
            found.append(f"{bucket} holds {counted} and counts {used[bucket]}")
    return found
