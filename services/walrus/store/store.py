"""The store: metadata and bytes together, and the only way to change an object.

Every method that changes something is one transaction, durable and visible when it returns.
Conditions are decided inside it. Errors are S3's own (`S3Error`); what the disk or the database
does to us is a `Fault` UNAVAILABLE.
"""

from __future__ import annotations

from mallee.walrus.store.buckets import Buckets
from mallee.walrus.store.listings import Listings
from mallee.walrus.store.reading import Departure
from mallee.walrus.store.uploads import Uploads
from mallee.walrus.store.writing import Arrival

Writing = Arrival
Reading = Departure


class Store(Buckets, Listings, Uploads):
    """Buckets, objects, their versions, uploads and listings; each family has a file of its own beside this one."""

    async def rest(self) -> None:
        """Return when no change is under way that nobody waits for; before the database is closed."""
        await self.ground.rest()
