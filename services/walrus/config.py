"""What the operator decides for the object store: section `[walrus]` of `mallee.toml`."""

from __future__ import annotations

from dataclasses import dataclass

from mallee.aws.listener.doors import Https
from mallee.walrus.store.blobs.s3 import S3Place


@dataclass(frozen=True, slots=True)
class WalrusConfig:
    """The object store's settings.

    Attributes:
        host, port: of the S3 endpoint; port 0 for any.
        address: `host:port` of its gRPC server; port 0 for any.
        clc: `host:port` of the cloud controller's, which knows whose keys these are.
        region: how this cloud calls itself; buckets are made there.
        regions_accepted: credential scopes that are accepted; empty for any.
        domains: names of this service; a request to `bucket.<domain>` means that bucket.
        database: SQLAlchemy URL; empty for SQLite in the state folder.
        objects: the folder of objects; empty for the state folder.
        s3: another store that holds the objects instead; this one then keeps identity, policy and metadata.
        https: another port of the S3 endpoint, with a certificate; None for none.
        keys_outlive_seconds: how long known access keys go on when the cloud controller cannot be asked.
        lifecycle_seconds: between two looks for what has come to its end.
    """

    host: str = "127.0.0.1"
    port: int = 8774
    address: str = "127.0.0.1:8779"
    clc: str = "127.0.0.1:8776"
    region: str = "mallee-1"
    regions_accepted: tuple[str, ...] = ()
    domains: tuple[str, ...] = ("s3.localhost", "localhost")
    database: str = ""
    objects: str = ""
    s3: S3Place | None = None
    https: Https | None = None
    keys_outlive_seconds: float = 10.0
    lifecycle_seconds: float = 3600.0
