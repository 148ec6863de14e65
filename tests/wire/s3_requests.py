"""Requests to S3 as bytes: signed, chunked, broken on purpose."""

import asyncio
import re
from base64 import b64encode
from hashlib import sha256
from urllib.parse import urlsplit

from awscrt import checksums
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from s3_house import KEY, SECRET

from mallee.aws.sigv4 import signing_key
from mallee.aws.sigv4_s3 import Chain

REGION = "mallee-1"


class Signer(S3SigV4Auth):
    """botocore's, with a payload mode that the test chooses."""

    def __init__(self, mode: str | None, secret: str = SECRET) -> None:
        super().__init__(Credentials(KEY, secret), "s3", REGION)
        self._mode = mode

    def payload(self, request):
        return self._mode or sha256(request.data or b"").hexdigest()


def head(house, method, target, *, mode=None, data=b"", secret=SECRET, **headers) -> dict[str, str]:
    """The headers of a signed request; `mode` is what it says of its body, in place of its hash."""
    made = AWSRequest(method=method, url=house.url + target, data=data)
    for name, value in headers.items():
        made.headers[name.replace("_", "-")] = value
    Signer(mode, secret).add_auth(made)
    given = {
        name: value.decode() if isinstance(value, bytes) else value for name, value in made.headers.items()
    }
    return {"Host": urlsplit(house.url).netloc, **given}


def request(house, method, target, *, body=b"", length=None, **more) -> bytes:
    """A whole request."""
    headers = head(house, method, target, data=more.pop("data", body), **more)
    if body or method in {"PUT", "POST"}:
        headers["Content-Length"] = str(len(body) if length is None else length)
    return raw(method, target, headers, body)


def raw(method, target, headers, body=b"") -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


class Chunked:
    """An upload in chunks, signed or not, with or without a trailer. Everything can be spoiled."""

    def __init__(
        self, house, target, *, signed: bool, trailer: str | None = None, length=None, chunks=(b"",), **more
    ):
        mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" if signed else "STREAMING-UNSIGNED-PAYLOAD"
        self.mode = mode + ("-TRAILER" if trailer else "")
        self.chunks = list(chunks)
        self.trailer = trailer
        whole = b"".join(self.chunks)
        fields = {"x_amz_decoded_content_length": str(len(whole) if length is None else length)}
        if trailer:
            fields["x_amz_trailer"] = trailer
        self.headers = head(
            house, "PUT", target, mode=self.mode, Content_Encoding="aws-chunked", **(fields | more)
        )
        self.target = target
        self.chain = None
        if signed:
            date = self.headers["X-Amz-Date"]
            key = signing_key(SECRET, date[:8], REGION, "s3")
            seed = re.search("Signature=([0-9a-f]+)", self.headers["Authorization"])[1]
            self.chain = Chain(key, date, f"{date[:8]}/{REGION}/s3/aws4_request", seed)

    def body(self, *, spoil=None, value=None, tail=b"", last=True) -> bytes:
        """The framed body; `spoil` changes the framed bytes of one chunk."""
        framed = []
        for chunk in [*self.chunks, b""] if last else self.chunks:
            signature = (
                f";chunk-signature={self.chain.chunk(sha256(chunk).hexdigest())}" if self.chain else ""
            )
            framed.append(f"{len(chunk):x}{signature}\r\n".encode() + (chunk + b"\r\n" if chunk else b""))
        if spoil is not None:
            framed = spoil(framed)
        if self.trailer:
            value = value or crc32c(b"".join(self.chunks))
            framed.append(f"{self.trailer}:{value}\r\n".encode())
            if self.chain:
                signature = self.chain.trailer(f"{self.trailer}:{value}\n".encode())
                framed.append(f"x-amz-trailer-signature:{signature}\r\n".encode())
        return b"".join(framed) + b"\r\n" + tail

    def request(self, body: bytes | None = None) -> bytes:
        body = self.body() if body is None else body
        return raw("PUT", self.target, self.headers | {"Content-Length": str(len(body))}, body)


def crc32c(body: bytes) -> str:
    return b64encode(checksums.crc32c(body).to_bytes(4, "big")).decode()


class Answer:
    """An answer, taken apart."""

    def __init__(self, data: bytes) -> None:
        first, _, rest = data.partition(b"\r\n")
        lines, _, self.body = rest.partition(b"\r\n\r\n")
        self.status = int(first.split()[1])
        self.headers = {
            name.strip().lower().decode(): value.strip().decode()
            for name, _, value in (line.partition(b":") for line in lines.split(b"\r\n"))
        }
        found = re.search(rb"<Code>(\w+)</Code>", self.body)
        self.code = found[1].decode() if found else ""

    def __repr__(self) -> str:
        return f"{self.status} {self.code} {self.body[:300]!r}"


async def say(house, *parts: bytes, seconds: float = 10, half: bool = False) -> Answer:
    """Send bytes on a connection of their own, and take the answer to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        async with asyncio.timeout(seconds):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if half:
                writer.write_eof()
            return await take(reader)
    finally:
        writer.close()


async def take(reader) -> Answer:
    """One answer from a connection that may carry more."""
    data = await reader.readuntil(b"\r\n\r\n")
    if data.startswith(b"HTTP/1.1 100"):
        data = await reader.readuntil(b"\r\n\r\n")
    found = Answer(data)
    length = found.headers.get("content-length")
    return Answer(data + await reader.readexactly(int(length))) if length else found
