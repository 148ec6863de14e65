"""The object store as a node needs it: pinned files to read, captured disks to write."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from awscrt.checksums import crc32c, crc64nvme

from mallee.domain.guest import ImageFile
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Channel
from mallee.rpc import objects_pb2
from mallee.rpc.objects_pb2_grpc import ObjectServiceStub

CHUNK_BYTES: Final = 1 << 20
_ABSENT: Final = {"NoSuchKey", "NoSuchVersion", "NoSuchBucket"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, as the store has it; `crc64nvme` is in base64, '' if nobody computed it."""

    size: int
    etag: str
    version_id: str
    crc64nvme: str
    headers: Mapping[str, str]


class Objects(Protocol):
    """What a node asks of the store."""

    def read(self, file: ImageFile, offset: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `offset` to the end, each piece checked.

        Raises:
            Fault: NOT_FOUND `no-such-image`; CONFLICT `image-changed` for an object that is not the pinned one;
                UNAVAILABLE for a line that broke: begin again behind what has come.
        """

    async def stat(self, bucket: str, key: str) -> Stored | None:
        """The object, None if there is none."""

    async def write(
        self, bucket: str, key: str, owner: str, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
    ) -> Stored:
        """A new object of these bytes, durable when this returns. Raises Fault CONFLICT if there is one."""


class ObjectStore:
    """The store over gRPC; implements `Objects`."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ObjectServiceStub(channel)

    async def read(self, file: ImageFile, offset: int) -> AsyncGenerator[bytes, None]:
        asked = objects_pb2.GetRequest(
            bucket=file.bucket, key=file.key, version_id=file.version_id, offset=offset
        )
        call = self._stub.Get(asked)
        try:
            async for said in call:
                if said.HasField("object"):
                    check_pin(file, _stored(said.object))
                elif crc32c(said.chunk.data) != said.chunk.crc32c:
                    raise _torn(file)
                else:
                    yield said.chunk.data
        except Fault as fault:
            raise _absent(file, fault) if fault.code in _ABSENT else fault from None
        finally:
            call.cancel()

    async def stat(self, bucket: str, key: str) -> Stored | None:
        try:
            said = await self._stub.Stat(objects_pb2.StatRequest(bucket=bucket, key=key))
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                return None
            raise
        return _stored(said.object)

    async def write(
        self, bucket: str, key: str, owner: str, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
    ) -> Stored:
        # Never over another object: what a node writes is new, whoever asked it to.
        opening = objects_pb2.PutRequest(
            bucket=bucket, key=key, owner=owner, headers=dict(headers), if_absent=True
        )
        call = self._stub.Put()
        whole = 0
        try:
            await call.write(opening)
            async for piece in pieces:
                whole = crc64nvme(piece, whole)
                chunk = objects_pb2.Chunk(data=piece, crc32c=crc32c(piece))
                await call.write(objects_pb2.PutRequest(chunk=chunk))
            stated = base64.b64encode(whole.to_bytes(8)).decode()
            await call.write(objects_pb2.PutRequest(chunk=objects_pb2.Chunk(), crc64nvme=stated))
            await call.done_writing()
            said = await call
        except Fault as fault:
            if fault.code == "ended":  # the store has said why, as its answer
                await call
            raise
        finally:
            call.cancel()
        return _stored(said.object)


def check_pin(file: ImageFile, stored: Stored) -> None:
    """Raises Fault CONFLICT `image-changed` when the object is not the one that was registered."""
    if (stored.size, _bare(stored.etag)) != (file.size, _bare(file.etag)):
        raise Fault(
            Kind.CONFLICT,
            f"The image file {file.bucket}/{file.key} is not the one that was registered.",
            why=f"It has {stored.size} bytes and ETag {_bare(stored.etag)};"
            f" registered were {file.size} and {_bare(file.etag)}.",
            fix="Register the image again, or put back the object that it was registered from.",
            code="image-changed",
        )


async def whole(objects: Objects, file: ImageFile) -> bytes:
    """All of a small file."""
    async with aclosing(objects.read(file, 0)) as pieces:
        return b"".join([piece async for piece in pieces])


def _bare(etag: str) -> str:
    return etag.strip('"')


def _absent(file: ImageFile, fault: Fault) -> Fault:
    return Fault(
        Kind.NOT_FOUND,
        f"The image file {file.bucket}/{file.key} is gone.",
        why=f"The object store says {fault.code}.",
        fix="Deregister the image, or put the object back.",
        code="no-such-image",
    )


def _torn(file: ImageFile) -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        f"A piece of {file.bucket}/{file.key} came changed over the line.",
        why="Its CRC-32C is not that of its bytes.",
        fix="It is asked for again.",
        code="torn-piece",
    )


def _stored(said: objects_pb2.Object) -> Stored:
    return Stored(said.size, said.etag, said.version_id, said.crc64nvme, dict(said.headers))
