"""Bytes and metadata of objects, durable before they are acknowledged.

`Store` is what the operations call; `Blobs` is where bytes lie (files of this machine, or
another S3). The database is the truth: bytes that no row names are garbage.
"""

from mallee.walrus.store.blobs import Blobs, Damaged
from mallee.walrus.store.blobs.files import Files
from mallee.walrus.store.documents import (
    ALWAYS,
    NULL,
    Bucket,
    Claim,
    Conditions,
    Deleted,
    Doomed,
    Encryption,
    Listed,
    Lock,
    NewObject,
    Page,
    Part,
    PartsPage,
    Upload,
    UploadsPage,
    Usage,
    Version,
)
from mallee.walrus.store.ground import Ground
from mallee.walrus.store.metrics import StoreMetrics
from mallee.walrus.store.store import Reading, Store, Writing

__all__ = [
    "ALWAYS",
    "NULL",
    "Blobs",
    "Bucket",
    "Claim",
    "Conditions",
    "Damaged",
    "Deleted",
    "Doomed",
    "Encryption",
    "Files",
    "Ground",
    "Listed",
    "Lock",
    "NewObject",
    "Page",
    "Part",
    "PartsPage",
    "Reading",
    "Store",
    "StoreMetrics",
    "Upload",
    "UploadsPage",
    "Usage",
    "Version",
    "Writing",
]
