"""What the operator decides for the CLC: section `[clc]` of `mallee.toml`."""

from __future__ import annotations

from dataclasses import dataclass, field

from mallee.aws.listener.doors import Https


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A zone and its cluster controller."""

    zone: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class InstanceTypeConfig:
    """An instance type the operator adds, or changes by its name."""

    name: str
    vcpus: int
    memory_mib: int
    architecture: str = "x86_64"


@dataclass(frozen=True, slots=True)
class ClcConfig:
    """The cloud controller's settings.

    Attributes:
        database: SQLAlchemy URL; empty for SQLite in the state folder. Controllers that name the same one are
            one cloud: requests may go to any of them.
        secrets: the file of the keys that seal secrets in the database; empty for one in the state folder.
            Controllers that share a database share it.
        region: how this cloud calls itself.
        address: where other services reach this one by gRPC; empty for nowhere.
        enrolment_address: where machines with a token become nodes; empty for nowhere.
        s3: where the object store answers S3, `http://host:port`: requests signed for it go on to there.
            Empty for nowhere.
        objects: `host:port` of the object store's gRPC server, which has the files of images. Empty for nowhere:
            images cannot be registered then.
        s3_domains: names of the object store; an unsigned request to `bucket.<domain>` goes on too.
        regions_accepted: credential scopes that are accepted; empty for any.
        https: another port of this endpoint, with a certificate; S3 is answered there too. None for none.
        default_vpc_cidr: every account's default VPC; half of it is laid out as one subnet a zone.
        throttle: token buckets as EC2 has them.
        allow_sigv2: accept the signatures of clients from before 2014.
        terminated_visible_seconds: how long a terminated instance is described.
    """

    host: str = "127.0.0.1"
    port: int = 8773
    database: str = ""
    secrets: str = ""
    region: str = "mallee-1"
    address: str = ""
    enrolment_address: str = ""
    s3: str = ""
    objects: str = ""
    https: Https | None = None
    s3_domains: tuple[str, ...] = ("s3.localhost",)
    regions_accepted: tuple[str, ...] = ()
    default_vpc_cidr: str = "172.31.0.0/16"
    throttle: bool = False
    allow_sigv2: bool = False
    clock_skew_seconds: int = 300
    terminated_visible_seconds: int = 3600
    max_instances_per_account: int = 0  # 0: as many as there is room for
    rendered_bytes: int = 128 * 1024 * 1024
    clusters: tuple[ClusterConfig, ...] = ()
    instance_types: tuple[InstanceTypeConfig, ...] = field(default_factory=tuple)
