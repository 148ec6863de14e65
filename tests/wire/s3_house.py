"""An object store's front with a dictionary behind it, on a socket."""

import asyncio
import hashlib
import os
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256

import uvicorn
from uvicorn.server import ServerState

from mallee.aws import model
from mallee.aws.context import Principal
from mallee.aws.listener import listener
from mallee.aws.rest_xml import RestXml
from mallee.aws.sigv4 import signing_key
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SystemEntropy
from mallee.walrus.api.table import S3Table
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import FileRange
from mallee.walrus.front.pipeline import S3Front

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ADA = Principal("000000000001", "arn:aws:iam::000000000001:user/ada", "AIDA1", KEY)
WIRE = RestXml(model.load("s3"))
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EVERY = ("Bucket", "Key", "Body", "Metadata", "ContentType", "ACL", "Tagging", "StorageClass")
SUMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
CHECKSUMS = tuple(f"Checksum{name}" for name in SUMS)
READING = ("Range", "ResponseContentDisposition", "ChecksumMode", "PartNumber", "VersionId", "IfMatch")


@dataclass(frozen=True)
class Derived:
    key: bytes
    principal: Principal = ADA
    active: bool = True
    session_token_sha256: bytes = b""


@dataclass
class Keys:
    """A key store that derives on the spot."""

    secret: str = SECRET
    token: str = ""
    active: bool = True

    async def find(self, access_key_id, date, region):
        if access_key_id != KEY:
            return None
        token = sha256(self.token.encode()).digest() if self.token else b""
        return Derived(signing_key(self.secret, date, region, "s3"), ADA, self.active, token)


@dataclass
class Policy:
    """Everybody may do everything that is not forbidden by name; anonymous people too, if they may."""

    forbidden: set[str] = field(default_factory=set)
    anonymous: bool = True
    asked: list = field(default_factory=list)

    async def authorise(self, call, parameters) -> None:
        self.asked.append((call, parameters))
        if call.operation in self.forbidden or (call.principal is None and not self.anonymous):
            raise S3Error("AccessDenied")

    async def preflight(self, call, origin, method, headers):
        if origin != "https://good.example" or method == "DELETE":
            raise S3Error("AccessForbidden")
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Methods": method}

    async def cross_origin(self, call, origin):
        return {"Access-Control-Allow-Origin": origin} if origin == "https://good.example" else {}


@dataclass
class Thing:
    body: bytes
    fields: dict
    sums: dict

    @property
    def etag(self):
        return f'"{hashlib.md5(self.body).hexdigest()}"'


class Pieces:
    """A body in verified pieces of a file, as the store gives them."""

    def __init__(self, body: bytes, size: int = 1 << 20, fail_at: int | None = None) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `aclose`
        self._file.write(body)
        self._file.flush()
        self._size = size
        self._fail_at = fail_at
        self.length = len(body)
        self.closed = False

    async def __aiter__(self):
        for at in range(0, self.length, self._size):
            if self._fail_at is not None and at >= self._fail_at:
                raise RuntimeError("damaged")
            yield FileRange(os.dup(self._file.fileno()), at, min(self._size, self.length - at))

    async def aclose(self):
        self._file.close()
        self.closed = True


def toy() -> S3Table:
    """Buckets and objects in `call.store`, a dict."""
    s3 = S3Table()
    for family in (objects(), buckets()):
        s3.include(family)
    return s3


class Heap:
    """Takes what is written, wherever that is to be hashed."""

    def __init__(self) -> None:
        self.held = bytearray()

    async def write(self, block, also=None, /) -> None:
        if also is not None:
            await asyncio.to_thread(also, block)
        self.held += block


def objects() -> S3Table:
    s3 = S3Table()

    @s3.operation("PutObject", accepts=EVERY + CHECKSUMS)
    async def put_object(call, req):
        call.body.also("CRC64NVME")
        found = Heap()
        await call.body.pour(found)
        thing = Thing(bytes(found.held), req, dict(call.body.checksums))
        assert call.body.md5 == hashlib.md5(thing.body).digest()
        call.store[req["Bucket"], req["Key"]] = thing
        sums = {f"Checksum{name}": value for name, value in thing.sums.items()}
        return {"ETag": thing.etag, **sums}

    @s3.operation("GetObject", accepts=("Bucket", "Key", *READING))
    async def get_object(call, req):
        thing = call.store.get((req["Bucket"], req["Key"]))
        if thing is None:
            raise S3Error("NoSuchKey", Key=req["Key"])
        answer = {
            "ETag": thing.etag,
            "LastModified": WHEN,
            "ContentType": thing.fields.get("ContentType", "binary/octet-stream"),
            "Metadata": thing.fields.get("Metadata", {}),
            "ContentDisposition": req.get("ResponseContentDisposition"),
            "AcceptRanges": "bytes",
        }
        if "IfMatch" in req and req["IfMatch"] != thing.etag:
            raise S3Error("PreconditionFailed", Condition="If-Match")
        if "Range" in req:
            first, last = (int(one) for one in req["Range"].removeprefix("bytes=").split("-"))
            body = thing.body[first : last + 1]
            span = f"bytes {first}-{last}/{len(thing.body)}"
            return answer | {"ContentRange": span, "ContentLength": len(body), "Body": body}
        body = Pieces(thing.body) if len(thing.body) > 16384 else thing.body
        return answer | {"ContentLength": len(thing.body), "Body": body}

    @s3.operation("HeadObject", accepts=("Bucket", "Key", *READING))
    async def head_object(call, req):
        answer = await get_object(call, req)
        body = answer.pop("Body")
        if isinstance(body, Pieces):
            await body.aclose()
        return answer

    @s3.operation("DeleteObject", accepts=("Bucket", "Key", "VersionId"))
    async def delete_object(call, req):
        call.store.pop((req["Bucket"], req["Key"]), None)

    return s3


def buckets() -> S3Table:
    s3 = S3Table()

    @s3.operation("ListBuckets")
    async def list_buckets(call, req):
        owner = {"ID": call.principal.account_id, "DisplayName": "ada"} if call.principal else None
        names = sorted({bucket for bucket, _ in call.store})
        return {"Buckets": [{"Name": name, "CreationDate": WHEN} for name in names], "Owner": owner}

    @s3.operation("CreateBucket", accepts=("Bucket", "CreateBucketConfiguration", "ACL"))
    async def create_bucket(call, req):
        return {"Location": f"/{req['Bucket']}"}

    @s3.operation("DeleteObjects", accepts=("Bucket", "Delete"))
    async def delete_objects(call, req):
        return {"Deleted": [{"Key": one["Key"]} for one in req["Delete"]["Objects"]]}

    @s3.operation(
        "CompleteMultipartUpload", accepts=("Bucket", "Key", "UploadId", "MultipartUpload", *CHECKSUMS)
    )
    async def complete(call, req):
        return {"ETag": f'"{len(req["MultipartUpload"]["Parts"])}"'}

    @s3.operation("PutBucketPolicy", accepts=("Bucket", "Policy"))
    async def put_policy(call, req):
        call.store[req["Bucket"], "policy"] = Thing(req["Policy"].encode(), {}, {})

    @s3.operation(
        "ListObjectsV2", accepts=("Bucket", "Prefix", "Delimiter", "MaxKeys", "EncodingType", "StartAfter")
    )
    async def list_objects(call, req):
        keys = sorted(
            key
            for bucket, key in call.store
            if bucket == req["Bucket"] and key.startswith(req.get("Prefix", ""))
        )
        found = [
            {"Key": key, "Size": len(call.store[req["Bucket"], key].body), "LastModified": WHEN}
            for key in keys
        ]
        return {
            "Name": req["Bucket"],
            "Prefix": req.get("Prefix", ""),
            "KeyCount": len(found),
            "MaxKeys": req.get("MaxKeys", 1000),
            "IsTruncated": False,
            "Contents": found,
            "EncodingType": req.get("EncodingType"),
        }

    return s3


@dataclass
class House:
    """A front that can be given requests, by a socket or without one."""

    store: dict = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)
    policy: Policy = field(default_factory=Policy)
    clock: object = field(default_factory=SystemClock)
    options: dict = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        fields = {
            "clock": self.clock,
            "entropy": SystemEntropy(),
            "access_log": False,
            "domains": ("s3.test",),
        }
        self.front = S3Front(
            toy(), wire=WIRE, keys=self.keys, access=self.policy, store=self.store, **fields | self.options
        )

    @asynccontextmanager
    async def open(self):
        """Answer on a port of this machine."""
        config = uvicorn.Config(
            self.front, lifespan="off", log_config=None, server_header=False, ws="none", proxy_headers=False
        )
        config.http = listener(lambda _: b"<Error/>", SystemEntropy())
        config.load()
        state = ServerState()
        make = partial(config.http_protocol_class, config=config, server_state=state, app_state={})
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.gather(*state.tasks, return_exceptions=True)
            self.front.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
