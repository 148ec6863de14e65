"""The object store's tables and their queries, a file per table family.

Keys are bytes, so both databases order them as S3 does: by their UTF-8. Documents of the operations
(ACLs, tags, configuration) are bytes too; nothing here reads them.
"""

from mallee.walrus.db import buckets, contents, garbage, listing, marks, objects, parts, uploads, usage
from mallee.walrus.db.metadata import metadata

METADATA = metadata

__all__ = [
    "METADATA",
    "buckets",
    "contents",
    "garbage",
    "listing",
    "marks",
    "objects",
    "parts",
    "uploads",
    "usage",
]
