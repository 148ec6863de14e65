"""The CLC's tables and their queries, a file per table family."""

from mallee.clc.db import (
    accounts,
    addresses,
    controllers,
    images,
    instance_search,
    instances,
    interfaces,
    key_pairs,
    network,
    node_tokens,
    sagas,
    security_groups,
    settings,
    tags,
    tenants,
    tokens,
)
from mallee.clc.db.metadata import metadata

METADATA = metadata

__all__ = [
    "METADATA",
    "accounts",
    "addresses",
    "controllers",
    "images",
    "instance_search",
    "instances",
    "interfaces",
    "key_pairs",
    "network",
    "node_tokens",
    "sagas",
    "security_groups",
    "settings",
    "tags",
    "tenants",
    "tokens",
]
