"""What the operator decides for the cloud as a whole: section `[cloud]` of `mallee.toml`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """Settings of `mallee up` and of every service alike.

    Attributes:
        name: the trust domain of the services' certificates; a DNS label.
        log_level: debug, info, warning or error.
        log_json: one JSON object a line, for machines; else text for people.
        zones, nodes, node_vcpus, node_memory_mib, instant, port, hypervisor, listen: as the options of `mallee up`, which
            take precedence.
        endpoint, s3_endpoint: as clients reach them, where that is not where they listen; for a CLC
            that stands alone, e.g. behind a container's published port.
    """

    name: str = "mallee"
    log_level: str = "info"
    log_json: bool = False
    zones: int | None = None
    nodes: int | None = None
    node_vcpus: int | None = None
    node_memory_mib: int | None = None
    instant: bool | None = None
    port: int | None = None
    hypervisor: str | None = None
    listen: str | None = None
    endpoint: str = ""
    s3_endpoint: str = ""
