"""Who a service is to another service: the name that its certificate proves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mallee.kernel.errors import Fault, Kind

ANYONE = "anyone"  # in an access table: also a caller without a certificate

# A name is also a DNS name in the certificate, because TLS libraries check servers by DNS name.
_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Identity:
    """One service of one cloud, as a SPIFFE identity.

    Args:
        cloud: the trust domain; a DNS label.
        role: what it may do, e.g. `nc`; a DNS label.
        name: which one it is, e.g. the node's name; at most 63 characters of a-z, 0-9, `-` and `.`.

    Raises:
        Fault: INVALID, when a part cannot stand in a certificate.
    """

    cloud: str
    role: str
    name: str

    def __post_init__(self) -> None:
        if not (_LABEL.match(self.cloud) and _LABEL.match(self.role) and _NAME.match(self.name)):
            raise Fault(
                Kind.INVALID,
                f"{self.cloud!r}, {self.role!r}, {self.name!r} is not the name of a service.",
                why="Each part stands in a certificate as part of a DNS name.",
                fix="Use lower-case letters, digits, hyphens and (in the name) dots.",
                code="bad-identity",
            )

    @property
    def uri(self) -> str:
        """`spiffe://cloud/role/name`, the SPIFFE ID."""
        return f"spiffe://{self.cloud}/{self.role}/{self.name}"

    @property
    def dns_names(self) -> tuple[str, str]:
        """The names a client may check this server by: by its role, and by itself."""
        return f"{self.role}.{self.cloud}", f"{self.name}.{self.role}.{self.cloud}"

    @property
    def common_name(self) -> str:
        """The subject of its certificate, as long as X.509 lets it be."""
        return str(self)[:64]

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """The identity that a SPIFFE ID names.

        Raises:
            Fault: INVALID, when it is not one of ours.
        """
        return _parsed(uri)

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


@lru_cache(maxsize=16_384)
def _parsed(uri: str) -> Identity:
    scheme, _, path = uri.partition("://")
    parts = path.split("/")
    if scheme != "spiffe" or len(parts) != 3:
        raise Fault(Kind.INVALID, f"{uri!r} is not the identity of a service.", code="bad-identity")
    return Identity(*parts)


NOBODY = Identity("unknown", ANYONE, "unknown")  # the peer of a call without a certificate
