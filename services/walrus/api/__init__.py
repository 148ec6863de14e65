"""What users may ask of the object store, one module per family of operations.

`s3` is the table that their decorators fill at import; `operations()` imports them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Final

from mallee.walrus.api.table import S3Table

Req = Mapping[str, Any]  # an operation's parameters, by the model's names and of its types

# What every operation on a bucket, and on an object, takes: who must own the bucket is checked before it
# acts, and nobody is ever charged, so whoever offers to pay is served.
BUCKET: Final = ("Bucket", "ExpectedBucketOwner")
OBJECT: Final = (*BUCKET, "Key", "RequestPayer")
CUSTOMER_KEY: Final = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")

s3 = S3Table()


def operations() -> S3Table:
    """Every operation; adding a file to this package is all that a new family needs."""
    for found in pkgutil.walk_packages(__path__, f"{__name__}."):
        importlib.import_module(found.name)
    return s3
