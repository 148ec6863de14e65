"""A guest as the CLC describes it and a node makes it, and the words for what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

_is_path = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}", re.ASCII).fullmatch


def is_path(tag_key: str) -> bool:
    """Whether a tag can be shown to a guest below its key."""
    return bool(_is_path(tag_key)) and tag_key not in {".", "..", "_index"}


class Resources(NamedTuple):
    """What a guest takes, or a node has."""

    vcpus: int
    memory_mib: int


class Power(StrEnum):
    """What a guest should be."""

    RUNNING = "running"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class Phase(StrEnum):
    """What a guest is, as a fact. A cause, where there is one, stands beside it."""

    CLAIMED = "claimed"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"
    FAILED = "failed"
    PAUSED = "paused"
    INCOMING = "incoming"


class GuestKey(NamedTuple):
    """Which copy of which instance: the only name a node knows a guest by."""

    instance_id: str
    generation: int


class Cause(NamedTuple):
    """Why: a stable code and a sentence."""

    code: str
    message: str


class Moment(NamedTuple):
    """When something happened on the machine that says so; for display only."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An object of the store, pinned: one of the same name with another size or ETag is not this one.

    Attributes:
        version_id: '' or `null` in a bucket without versioning.
        format: `raw` or `qcow2` of a disk; '' of a kernel or a ramdisk.
        virtual_bytes: of the disk as a guest sees it.
    """

    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    format: str = ""
    virtual_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What a guest boots from: a root disk, or a kernel with what it needs."""

    root: ImageFile | None = None
    kernel: ImageFile | None = None
    ramdisk: ImageFile | None = None


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    """How a guest may ask for its metadata.

    Attributes:
        hop_limit: of the answer that carries a token.
        tags: what is shown below `tags/instance`; None when tags are not shown.
    """

    enabled: bool = True
    tokens_required: bool = False
    hop_limit: int = 1
    tags: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Guest:
    """Everything a node needs to make a guest.

    Attributes:
        image_location: names an image that every node has, where there is no `image`.
        root_gib: of the root disk; 0 for as large as its image.
        description: which this is; a later one takes its place while the guest runs.
    """

    instance_id: str
    account_id: str
    instance_type: str
    resources: Resources
    image_id: str
    image_location: str
    architecture: str
    hostname: str
    mac_address: str
    private_address: str
    subnet_cidr: str
    public_key: str
    key_name: str
    user_data: bytes
    root_device_name: str
    availability_zone: str
    launched_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    image: GuestImage | None = None
    root_gib: int = 0
    metadata: MetadataOptions = MetadataOptions()
    launch_index: int = 0
    description: int = 0

    @property
    def has_root_disk(self) -> bool:
        """Whether there is a disk of its own, which outlives a stop."""
        return self.image is not None and self.image.root is not None

    def described_anew(self, later: Guest) -> Guest:
        """This guest with what may change while it runs: how it asks for its metadata, and tags."""
        return replace(self, metadata=later.metadata, tags=later.tags, description=later.description)
