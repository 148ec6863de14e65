"""Requests as they come over HTTP: mostly well signed, and bent in every way that a signature allows."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from urllib.parse import quote, urlencode

from tests.wire.chance import Chance
from tests.wire.fuzzed_forms import Form, bad, bad_text

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY_ID = "AKIDEXAMPLE"
REGION = "mallee-1"
_FORM = b"application/x-www-form-urlencoded"
_TYPES = (
    b"",
    b"text/plain",
    b"multipart/form-data",
    b"APPLICATION/X-WWW-FORM-URLENCODED; charset=x",
    b"\xff",
)
_NOISE = (
    b"&",
    b"=",
    b"%",
    b"%zz",
    b"%00",
    b"%c3",
    b"%F0%9F",
    b"+",
    b";",
    b"\0",
    b"\xff\xfe",
    b".1",
    b"&&&",
    b"Action=",
)
_SIGNED = "host;x-amz-date"


@dataclass(slots=True)
class Sent:
    """One request.

    Attributes:
        parts: the body as it arrives.
        whole: whether the client stays until its end.
    """

    method: str = "POST"
    path: bytes = b"/"
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: Sequence[bytes] = (b"",)
    whole: bool = True

    def scope(self) -> dict[str, object]:
        """As the ASGI server hands it over."""
        return {
            "type": "http",
            "method": self.method,
            "path": self.path.decode("latin-1"),
            "raw_path": self.path,
            "query_string": self.query,
            "headers": self.headers,
        }

    def __str__(self) -> str:
        body = b"".join(self.parts)
        return f"{self.method} {self.path!r}?{self.query[:300]!r} {self.headers} {len(self.parts)} parts {body[:600]!r}"


class Signer:
    """Signs by Signature Version 4; the date's key is derived once."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], bytes] = {}

    def headers(
        self, service: str, moment: str, method: str, query: str, body: bytes
    ) -> list[tuple[bytes, bytes]]:
        """Host, date and authorization. `moment` as in `20260101T000000Z`, `query` in canonical form."""
        scope = f"{moment[:8]}/{REGION}/{service}/aws4_request"
        payload = sha256(body).hexdigest()
        canonical = f"{method}\n/\n{query}\nhost:localhost\nx-amz-date:{moment}\n\n{_SIGNED}\n{payload}"
        digest = sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        signature = hmac.new(self._key(moment[:8], service), text.encode(), sha256).hexdigest()
        credential = f"Credential={KEY_ID}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"
        return [
            (b"host", b"localhost"),
            (b"x-amz-date", moment.encode()),
            (b"authorization", f"AWS4-HMAC-SHA256 {credential}".encode()),
        ]

    def _key(self, date: str, service: str) -> bytes:
        key = self._keys.get((date, service))
        if key is None:
            key = f"AWS4{SECRET}".encode()
            for part in (date, REGION, service, "aws4_request"):
                key = hmac.new(key, part.encode(), sha256).digest()
            self._keys[date, service] = key
        return key


class Requests:
    """Makes requests of forms; which way each is bent is drawn."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._signer = Signer()
        self._ways = (
            (self._plain, 70),
            (self._as_query, 6),
            (self._mangled, 10),
            (self._in_parts, 5),
            (self._half_sent, 3),
            (self._strange_head, 3),
            (self._badly_signed, 2),
            (self._heavy, 1),
        )
        self._makers = [maker for maker, weight in self._ways for _ in range(weight)]

    def make(self, service: str, moment: str, form: Form) -> Sent:
        return self._chance.of(self._makers)(service, moment, form)

    def plain(self, service: str, moment: str, form: Form) -> Sent:
        return self._plain(service, moment, form)

    def _plain(self, service: str, moment: str, form: Form) -> Sent:
        return self._posted(service, moment, urlencode(form).encode())

    def _posted(self, service: str, moment: str, body: bytes) -> Sent:
        headers = self._signer.headers(service, moment, "POST", "", body)
        return Sent(headers=[*headers, (b"content-type", _FORM)], parts=(body,))

    def _as_query(self, service: str, moment: str, form: Form) -> Sent:
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in form)
        query = "&".join(f"{name}={value}" for name, value in pairs)
        headers = self._signer.headers(service, moment, "GET", query, b"")
        return Sent("GET", query=query.encode(), headers=headers)

    def _mangled(self, service: str, moment: str, form: Form) -> Sent:
        """The bytes of a form, cut, doubled, shuffled or with noise in them; and signed as they are."""
        chance = self._chance
        body = urlencode(form).encode()
        for _ in range(1 + chance.below(3)):
            at, to = sorted((chance.below(len(body) + 1), chance.below(len(body) + 1)))
            body = chance.of(
                (
                    body[:at],
                    body[:at] + body[to:],
                    body[:to] + body[at:],
                    body[:at] + chance.of(_NOISE) + body[at:],
                    body[:at] + chance.bytes(chance.below(9)) + body[at:],
                    b"&".join(chance.shuffled(body.split(b"&"))),
                )
            )
        return self._posted(service, moment, body[:200_000])

    def _in_parts(self, service: str, moment: str, form: Form) -> Sent:
        sent = self._plain(service, moment, form)
        (body,) = sent.parts
        cuts = sorted(self._chance.below(len(body) + 1) for _ in range(1 + self._chance.below(5)))
        edges = [0, *cuts, len(body)]
        sent.parts = [body[low:high] for low, high in pairwise(edges)]
        return sent

    def _half_sent(self, service: str, moment: str, form: Form) -> Sent:
        sent = self._in_parts(service, moment, form)
        sent.parts, sent.whole = sent.parts[:-1], False
        return sent

    def _strange_head(self, service: str, moment: str, form: Form) -> Sent:
        sent, chance = self._plain(service, moment, form), self._chance
        match chance.below(6):
            case 0:
                sent.method = chance.of(("PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"))
            case 1:
                sent.path = chance.of((b"//", b"/x", b"/%2e%2e/", b"/" + b"a" * 3000, b"*", b"/\xff"))
            case 2:
                sent.query = chance.bytes(chance.below(60))
            case 3:
                sent.headers[-1] = (b"content-type", chance.of(_TYPES))
            case 4:
                length = chance.of((b"-1", b"9" * 30, b"x", b"0", b"1048577", b"12 12"))
                sent.headers.append((b"content-length", length))
            case 5:
                name = chance.of(
                    (b"x-forwarded-for", b"amz-sdk-invocation-id", b"expect", b"host", b"user-agent")
                )
                sent.headers.append((name, bad(chance).encode("utf-8", "surrogatepass")[:9000]))
        return sent

    def _badly_signed(self, service: str, moment: str, form: Form) -> Sent:
        sent, chance = self._plain(service, moment, form), self._chance
        name, value = sent.headers[2]
        at = chance.below(len(value))
        broken = chance.of(
            (
                value[:at],
                value[:at] + chance.bytes(1) + value[at + 1 :],
                value.replace(b"/", b"", 1),
                value.replace(b"aws4_request", b"aws4", 1),
                value.replace(b"host;", b"host;host;", 1),
                value + b", " + value,
                b"AWS4-HMAC-SHA256 ",
                bad_text(chance).encode("utf-8", "surrogatepass")[:9000],
            )
        )
        sent.headers[2] = (name, broken)
        return sent

    def _heavy(self, service: str, moment: str, form: Form) -> Sent:
        """Much of something: one value, one list, many names, a deep name."""
        chance = self._chance
        match chance.below(5):
            case 0:
                form = [
                    *form,
                    ("Filter.1.Value.1", "x" * chance.of((255, 256, 65_536, 1_000_000, 1_048_576))),
                ]
            case 1:
                many = chance.of((199, 200, 201, 1190, 1210))
                form = [*form, *((f"Filter.1.Value.{number}", "x") for number in range(1, many + 1))]
            case 2:
                form = [*form, *((f"{bad_text(chance)[:50]}{number}", "") for number in range(1100))]
            case 3:
                form = [*form, (".".join("1" * chance.of((22, 23, 24, 25, 5000))), "x")]
            case 4:
                form = form * (2 + chance.below(39))
        return self._plain(service, moment, form)
