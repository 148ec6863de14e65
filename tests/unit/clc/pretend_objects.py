"""An object store in memory, whose objects their bucket's owner may read and nobody else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from mallee.clc.s3.objects import Stored
from mallee.domain.guest import ImageFile
from mallee.kernel.errors import Fault, Kind

DISK = b"\xeb\x3c" + bytes(510) + b"a disk".ljust(512, b"\0")  # two sectors, of no format that is known
LOCATION = "bucket/disk.raw"  # one that everybody may read, in each store


@dataclass
class PretendObjects:
    """`failing` is raised once by each call that is named in it."""

    region: str = "mallee-1"
    owners: dict[str, str] = field(default_factory=lambda: {"bucket": ""})
    held: dict[tuple[str, str], bytes] = field(default_factory=lambda: {("bucket", "disk.raw"): DISK})
    headers: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    failing: dict[str, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def put(self, owner: str, bucket: str, key: str, data: bytes, **headers: str) -> str:
        """Where it is, for RegisterImage."""
        self.owners.setdefault(bucket, owner)
        self.held[bucket, key] = data
        self.headers[bucket, key] = {name.replace("_", "-"): text for name, text in headers.items()}
        return f"{bucket}/{key}"

    async def stat(self, bucket: str, key: str, *, reader: str) -> Stored:
        self._called("stat")
        if bucket not in self.owners:
            raise Fault(Kind.NOT_FOUND, "The specified bucket does not exist", code="NoSuchBucket")
        if self.owners[bucket] not in {"", reader}:
            raise Fault(Kind.FORBIDDEN, "Access Denied", code="AccessDenied")
        return self._stored(bucket, key)

    async def head(self, stored: Stored, length: int, *, reader: str) -> bytes:
        self._called("head")
        assert self.owners[stored.bucket] in {"", reader}
        return self.held[stored.bucket, stored.key][:length]

    async def make_bucket(self, bucket: str, owner: str) -> None:
        self._called("make_bucket")
        if self.owners.setdefault(bucket, owner) != owner:
            raise Fault(Kind.CONFLICT, "It is somebody else's.", code="BucketAlreadyExists")

    async def copy(self, source: ImageFile, bucket: str, key: str, owner: str) -> ImageFile:
        self._called("copy")
        found = self._stored(source.bucket, source.key)
        if (found.size, found.etag) != (source.size, source.etag):
            raise Fault(Kind.CONFLICT, "It is another one.", code="PreconditionFailed")
        assert self.owners[bucket] == owner
        self.held[bucket, key] = self.held[source.bucket, source.key]
        return self._stored(bucket, key).pinned(source.format, source.virtual_bytes)

    async def delete(self, bucket: str, key: str, version_id: str = "") -> None:
        self._called("delete")
        self.held.pop((bucket, key), None)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing.pop(name)

    def _stored(self, bucket: str, key: str) -> Stored:
        data = self.held.get((bucket, key))
        if data is None:
            raise Fault(Kind.NOT_FOUND, "The specified key does not exist.", code="NoSuchKey")
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Stored(bucket, key, "null", len(data), etag, self.headers.get((bucket, key), {}))
