"""What the operator decides for the object store: section `[walrus]` of `mallee.toml`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WalrusConfig:
    """The object store's settings.

    Attributes:
        host, port: of the S3 endpoint; port 0 for any.
        address: `host:port` of its gRPC server; port 0 for any.
    """

    host: str = "127.0.0.1"
    port: int = 8774
    address: str = "127.0.0.1:8779"
