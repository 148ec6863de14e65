"""What the operator decides for a storage controller: section `[sc]` of `mallee.toml`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScConfig:
    """The storage controller's settings.

    Attributes:
        address: `host:port` of its gRPC server; port 0 for any.
    """

    address: str = "127.0.0.1:8778"
