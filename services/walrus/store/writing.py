"""Bytes on their way in: kept in memory while they are few, written to a blob when they are more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog
from awscrt.checksums import crc32c

from mallee.kernel.errors import STORAGE_FULL, Fault
from mallee.kernel.file_system import Bytes
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store import sealing
from mallee.walrus.store.blobs import SUM, Incoming
from mallee.walrus.store.documents import Encryption
from mallee.walrus.store.ground import Ground

_log = structlog.get_logger()


class Arrival:
    """What `Store.begin` gives.

    Attributes:
        size: written so far, as the client sent it.
        checked: its conditions held when it began.
        claimed: it is being committed, or was discarded.
        named: a transaction that names it was begun.
    """

    def __init__(
        self, ground: Ground, encryption: Encryption | None, *, checked: bool = False, large: bool = False
    ) -> None:
        self._ground = ground
        self.name = ground.new_name()
        self.size = 0
        self.checked = checked
        self.encryption = encryption
        self.crypt = b""
        self._sealer: sealing.Sealer | None = None
        self._held = bytearray()
        self._incoming: Incoming | None = ground.blobs.create(self.name) if large else None
        self.claimed = False
        self.named = False
        if large:
            ground.written.add(self.name)
        if encryption is not None:
            key, self.crypt = sealing.new_key(ground.box, ground.entropy, encryption.customer_key)
            self._sealer = sealing.Sealer(key)

    @property
    def is_small(self) -> bool:
        """All of it is held in memory, and its row will be all that there is of it."""
        return self._incoming is None and self._sealer is None

    def small(self) -> ContentRow:
        """The content of one that `is_small`."""
        held = bytes(self._held)
        crcs = crc32c(held).to_bytes(SUM) if held else b""
        return ContentRow(self.name, 1, self.size, len(held), crcs, self.crypt, None, held)

    async def write(self, block: Bytes, also: Callable[[Bytes], None] | None = None, /) -> None:
        """Take a block; `also` is called with it where the block is written, before this returns."""
        self.size += len(block)
        before = None if also is None else partial(also, block)
        await self._store(block if self._sealer is None else self._sealer.add(block), before)

    async def finish(self, *, inline: bool = True) -> ContentRow:
        """The content, durable but for its row. Raises Fault UNAVAILABLE."""
        if self._sealer is not None:
            await self._store(self._sealer.end())
        if self._incoming is None and not inline:
            await self._begin_blob()
        if self._incoming is None:
            return self.small()
        blob = await self._incoming.finish()
        return ContentRow(self.name, 1, self.size, blob.size, blob.crcs, self.crypt, None, None)

    @asynccontextmanager
    async def landing(self) -> AsyncIterator[None]:
        """Around the change that names what was written: whatever becomes of it, nothing is lost or left."""
        try:
            yield
        except S3Error:
            await self._drop()
            raise
        except Fault as fault:
            # The commit itself may have been made: whether a row names the blob is for the sweep to find out.
            if self.named and fault.code != STORAGE_FULL:
                self._ground.written.discard(self.name)
            else:
                await self._drop()
            raise
        except BaseException:
            self._ground.written.discard(self.name)
            raise
        self._ground.written.discard(self.name)

    async def discard(self) -> None:
        # Once it is being committed it is the commit's, which goes on without its caller.
        if not self.claimed:
            self.claimed = True
            if self._incoming is None:
                return
            await self._ground.outlive(self._drop())

    async def _drop(self) -> None:
        try:
            if self._incoming is not None:
                await self._incoming.discard()
        except Fault as fault:
            _log.warning("what was written is left to the sweep", content=self.name.hex(), cause=str(fault))
        finally:
            self._ground.written.discard(self.name)

    async def _store(self, data: Bytes, before: Callable[[], None] | None = None) -> None:
        if self._incoming is None and len(self._held) + len(data) <= self._ground.inline:
            if before is not None:
                before()
            self._held += data
            return
        if self._incoming is None:
            await self._begin_blob()
        assert self._incoming is not None
        if data or before is not None:
            await self._incoming.write(data, before)

    async def _begin_blob(self) -> None:
        self._ground.written.add(self.name)
        self._incoming = self._ground.blobs.create(self.name)
        if self._held:
            await self._incoming.write(self._held)
            self._held = bytearray()
