"""The object store, as the cloud controller needs it: what an image is, and copies of it.

Whoever names an object in a request is its reader: the store judges the account, never this service.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from mallee.domain.guest import ImageFile
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import objects_pb2 as pb
from mallee.rpc.objects_pb2_grpc import ObjectServiceStub

_PATIENCE = 30.0  # seconds for a copy whose bytes cannot be shared


class Stored(NamedTuple):
    """An object as it is now; `headers` by lower-case name."""

    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    headers: dict[str, str]

    def pinned(self, kind: str = "", virtual_bytes: int = 0) -> ImageFile:
        """What a node must find there, and nothing else: `kind` is a disk's format, '' for a kernel or ramdisk."""
        return ImageFile(self.bucket, self.key, self.version_id, self.size, self.etag, kind, virtual_bytes)


class ObjectStore(Protocol):
    """Every failure is a `Fault`; its code is S3's (`NoSuchKey`, `AccessDenied`) where S3 has one."""

    async def stat(self, bucket: str, key: str, *, reader: str) -> Stored:
        """An object that the account `reader` may read."""

    async def head(self, stored: Stored, length: int, *, reader: str) -> bytes:
        """Its first bytes, `length` of them if it has as many. CONFLICT when it is another object by now."""

    async def make_bucket(self, bucket: str, owner: str) -> None:
        """A bucket of that account, made now if there is none; CONFLICT if it is somebody else's."""

    async def copy(self, source: ImageFile, bucket: str, key: str, owner: str) -> ImageFile:
        """The same bytes under another name. CONFLICT when the source is another object by now."""

    async def delete(self, bucket: str, key: str, version_id: str = "") -> None:
        """Remove an object; one that is not there is fine."""


class ObjectsClient:
    """The store of this cloud over its gRPC face.

    Args:
        channel: to it.
        region: where buckets are made.
    """

    def __init__(self, channel: Any, region: str) -> None:
        self._stub: Any = ObjectServiceStub(channel)
        self._region = region

    async def stat(self, bucket: str, key: str, *, reader: str) -> Stored:
        answer = await self._stub.Stat(pb.StatRequest(bucket=bucket, key=key, reader=reader))
        return _stored(answer.object)

    async def head(self, stored: Stored, length: int, *, reader: str) -> bytes:
        wanted = min(length, stored.size)
        if not wanted:
            return b""
        request = pb.GetRequest(bucket=stored.bucket, key=stored.key, length=wanted, reader=reader)
        read = bytearray()
        async for part in self._stub.Get(request):
            if part.HasField("object") and _stored(part.object) != stored:
                raise Fault(
                    Kind.CONFLICT,
                    f"{stored.bucket}/{stored.key} was written over while it was read.",
                    fix="Try again.",
                    code="object-changed",
                )
            read += part.chunk.data
        return bytes(read)

    async def make_bucket(self, bucket: str, owner: str) -> None:
        await self._stub.MakeBucket(pb.MakeBucketRequest(bucket=bucket, owner=owner, region=self._region))

    async def copy(self, source: ImageFile, bucket: str, key: str, owner: str) -> ImageFile:
        request = pb.CopyRequest(
            bucket=source.bucket,
            key=source.key,
            version_id="" if source.version_id == "null" else source.version_id,
            size=source.size,
            etag=source.etag,
            to_bucket=bucket,
            to_key=key,
            owner=owner,
        )
        answer = await self._stub.Copy(request, timeout=_PATIENCE)
        return _stored(answer.object).pinned(source.format, source.virtual_bytes)

    async def delete(self, bucket: str, key: str, version_id: str = "") -> None:
        version = "" if version_id == "null" else version_id
        try:
            await self._stub.Delete(pb.DeleteRequest(bucket=bucket, key=key, version_id=version))
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise


def _stored(found: pb.Object) -> Stored:
    headers = {name.lower(): text for name, text in found.headers.items()}
    return Stored(found.bucket, found.key, found.version_id, found.size, found.etag, headers)
