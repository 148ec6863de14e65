"""Blobs in another S3 (MinIO, Ceph, another Walrus): this one then keeps identity, policy and metadata, and no data.

A blob is a row of objects, `<prefix><name>/<number>`, of 8 MiB each but the last: ranges are plain, a
failed write leaves nothing half made, and an upload needs no more memory than one of them. The other
store is trusted to be durable when it answers, and with nothing else: what comes back is verified.
The client blocks, so it is called in threads.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.kernel.file_system import Bytes
from mallee.kernel.secrets_box import Secret
from mallee.kernel.threads import Threads
from mallee.walrus.store.blobs import BLOCK, Blob, Missing, Piece, Sums, block_size, verify

if TYPE_CHECKING:
    from minio import Minio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_BLOCKS = 8  # in one object
_SIZE = _BLOCKS * BLOCK
_THREADS = 8
_AT_ONCE = 1000
_NAME = re.compile("[0-9a-f]{32}")
_FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"}


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where the other store is.

    Attributes:
        endpoint: `host:port`.
        prefix: of all names, so that several stores may share a bucket.
    """

    endpoint: str
    bucket: str
    access_key: str
    secret_key: Secret
    region: str = "us-east-1"
    secure: bool = True
    prefix: str = ""


class OtherS3:
    """Blobs in a bucket of another store."""

    def __init__(self, place: S3Place) -> None:
        from minio import Minio

        self.place = place
        self.threads = Threads(_THREADS, "s3")
        self.client: Minio = Minio(
            place.endpoint,
            access_key=place.access_key,
            secret_key=place.secret_key.reveal(),
            region=place.region,
            secure=place.secure,
        )

    @classmethod
    async def start(cls, place: S3Place) -> OtherS3:
        """Make the bucket if it is missing. Raises Fault UNAVAILABLE."""
        started = cls(place)
        try:
            await started.run("The other store cannot be used", started._prepare)
        except Fault:
            await started.close()
            raise
        return started

    def create(self, name: bytes) -> S3Incoming:
        return S3Incoming(self, name)

    async def read(
        self,
        blob: Blob,
        first: int,
        last: int,
        *,
        sendfile: bool,  # noqa: ARG002 - there is no file here
    ) -> AsyncGenerator[Piece, None]:
        last_block = last // BLOCK
        for number in range(first // _SIZE, last // _SIZE + 1):
            start = max(first // BLOCK, number * _BLOCKS)
            end = min(last_block, number * _BLOCKS + _BLOCKS - 1)
            for block, data in enumerate(await self._get(blob, number, start, end), start):
                verify(blob, block, data)
                low = max(first - block * BLOCK, 0)
                yield memoryview(data)[low : last + 1 - block * BLOCK]

    async def remove(self, names: Sequence[bytes]) -> None:
        await self.run("Garbage cannot be removed", self._remove, names)

    async def names(self) -> AsyncIterator[list[bytes]]:
        after = ""
        while True:
            found = await self.run("The blobs cannot be listed", self._names, after)
            if not found:
                return
            after = f"{self.place.prefix}{found[-1]}0"  # the slash of a name sorts below it
            yield [bytes.fromhex(name) for name in found]

    async def close(self) -> None:
        self.threads.close()

    def object(self, name: bytes, number: int) -> str:
        """A blob's object by its number; they sort in order."""
        return f"{self.place.prefix}{name.hex()}/{number:07}"

    async def run(self, doing: str, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call the client in a thread. Raises Fault UNAVAILABLE, Missing."""
        try:
            return await self.threads.run(_translated, doing, work, *arguments)
        except OSError as error:
            raise _unavailable(doing, error, full=False) from error

    def _prepare(self) -> None:
        if not self.client.bucket_exists(self.place.bucket):
            self.client.make_bucket(self.place.bucket)

    async def _get(self, blob: Blob, number: int, start: int, end: int) -> list[bytes]:
        """Blocks `start` to `end`, both inclusive, which are in one object."""
        offset = (start - number * _BLOCKS) * BLOCK
        length = (end - start) * BLOCK + block_size(blob, end)
        try:
            data = await self.run(
                "The content cannot be read", self._read, self.object(blob.name, number), offset, length
            )
        except Missing:
            raise Missing(blob.name) from None
        return [data[at : at + BLOCK] for at in range(0, max(1, len(data)), BLOCK)]

    def _read(self, name: str, offset: int, length: int) -> bytes:
        response = self.client.get_object(self.place.bucket, name, offset=offset, length=length)
        try:
            data: bytes = response.read()
            return data
        finally:
            response.close()
            response.release_conn()

    def _remove(self, names: Sequence[bytes]) -> None:
        from minio.deleteobjects import DeleteObject

        for name in names:
            prefix = f"{self.place.prefix}{name.hex()}/"
            found = [
                DeleteObject(str(each.object_name))
                for each in self.client.list_objects(self.place.bucket, prefix=prefix, recursive=True)
            ]
            for at in range(0, len(found), _AT_ONCE):
                for error in self.client.remove_objects(self.place.bucket, found[at : at + _AT_ONCE]):
                    raise OSError(f"{error.code} for {error.name}")

    def _names(self, after: str) -> list[str]:
        """A thousand from behind `after`; names that are none of ours are left alone."""
        found: list[str] = []
        prefix = self.place.prefix
        for each in self.client.list_objects(
            self.place.bucket, prefix=prefix or None, start_after=after or None
        ):
            name = str(each.object_name).removeprefix(prefix).rstrip("/")
            if _NAME.fullmatch(name):
                found.append(name)
            if len(found) == _AT_ONCE:
                break
        return found


class S3Incoming:
    """A blob that is being sent."""

    def __init__(self, place: OtherS3, name: bytes) -> None:
        self._place = place
        self._name = name
        self._sums = Sums()
        self._held = bytearray()
        self._sent = 0

    async def write(self, data: Bytes, before: Callable[[], None] | None = None) -> None:
        if before is not None:
            await self._place.threads.run(before)
        self._sums.add(data)
        view = memoryview(data)
        while view:
            room = _SIZE - len(self._held)
            self._held += view[:room]
            view = view[room:]
            if len(self._held) == _SIZE:
                await self._send()

    async def finish(self) -> Blob:
        if self._held or not self._sent:
            await self._send()
        return Blob(self._name, self._sums.size, self._sums.end())

    async def discard(self) -> None:
        self._held = bytearray()
        if self._sent:
            await self._place.remove([self._name])

    async def _send(self) -> None:
        held, self._held = self._held, bytearray()
        number = self._sent
        self._sent += 1  # before it is done: an answer that is lost may have been a success
        await self._place.run("The object was not written", self._put, number, bytes(held))

    def _put(self, number: int, data: bytes) -> None:
        name = self._place.object(self._name, number)
        self._place.client.put_object(self._place.place.bucket, name, io.BytesIO(data), len(data))


def _translated(doing: str, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call the client; what it raises as what the store understands."""
    from minio.error import InvalidResponseError, MinioException, S3Error
    from urllib3.exceptions import HTTPError

    try:
        return work(*arguments)
    except S3Error as error:
        if error.code in {"NoSuchKey", "NoSuchObject"}:
            raise Missing(b"") from error
        raise _unavailable(doing, error, full=error.code in _FULL) from error
    except InvalidResponseError as error:
        # The client reads errors as `application/xml` only; some stores say `text/xml`.
        if "<Code>NoSuchKey</Code>" in str(error):
            raise Missing(b"") from error
        raise _unavailable(doing, error, full=False) from error
    except (MinioException, HTTPError) as error:
        raise _unavailable(doing, error, full=False) from error


def _unavailable(doing: str, error: Exception, *, full: bool) -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        f"{doing}.",
        why="The other store is full." if full else f"The other store answers: {error}.",
        fix="Make room there, then try again."
        if full
        else "Look whether it runs and what it logs, then try again.",
        code=STORAGE_FULL if full else "blob-store",
    )
