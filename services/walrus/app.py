"""The object store as a whole: start it, stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from mallee.aws import model
from mallee.aws.exchange import App
from mallee.aws.listener import listener
from mallee.aws.listener.doors import answer, bind
from mallee.aws.rest_xml import RestXml, error_xml
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.db.metrics import DatabaseMetrics
from mallee.kernel.entropy import Entropy
from mallee.kernel.reconcile import Reconciler
from mallee.kernel.rpc import Identity, Served, Transport
from mallee.kernel.secrets_box import SecretsBox
from mallee.rpc.common_pb2_grpc import add_IntrospectionServiceServicer_to_server
from mallee.rpc.objects_pb2_grpc import add_ObjectServiceServicer_to_server
from mallee.walrus.access.gate import Gate
from mallee.walrus.api import operations
from mallee.walrus.config import WalrusConfig
from mallee.walrus.db import METADATA
from mallee.walrus.errors import S3Error
from mallee.walrus.forwarded import behind_door
from mallee.walrus.front.pipeline import S3Front
from mallee.walrus.identity import Identities
from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.reconcile.lifecycle import Lifecycle
from mallee.walrus.reconcile.orphans import Orphans
from mallee.walrus.reconcile.scrub import Scrub
from mallee.walrus.service import ACCESS, Introspection, Objects
from mallee.walrus.store import Blobs, Files, Ground, Store
from mallee.walrus.store.blobs.s3 import OtherS3

DATABASE, SECRETS, OBJECTS = "walrus.db", "secrets", "objects"
_log = structlog.get_logger()


class Walrus:
    """One object store.

    Args:
        folder: what it alone writes.

    Attributes:
        front: the application that answers S3 requests, once started; whoever shares the process may
            pass requests to it.
        s3_port, https_port: where it listens, once started; 0 for nowhere.
    """

    def __init__(
        self,
        config: WalrusConfig,
        me: Identity,
        *,
        folder: Path,
        clock: Clock,
        entropy: Entropy,
        transport: Transport,
    ) -> None:
        self._config = config
        self._me = me
        self._folder = folder
        self._clock = clock
        self._entropy = entropy
        self._transport = transport
        self._served: Served | None = None
        self._running = AsyncExitStack()
        self.front: App | None = None
        self.store: Store | None = None
        self.s3_port = config.port
        self.https_port = 0

    @property
    def address(self) -> str:
        """Where its gRPC server answers, once started."""
        return self._served.address if self._served else self._config.address

    async def start(self) -> None:
        """Answer at both ports. Raises Fault when it cannot; nothing is left behind then."""
        async with AsyncExitStack() as starting:
            ports = bind(
                "The S3 endpoint", self._config.host, self._config.port, self._config.https, starting
            )
            store = await self._open_store(starting)
            identities = self._identities(starting)
            await self._serve_rpc(store, starting)
            self._reconcile(store, starting)
            front = self._front(store, identities, starting)
            app = behind_door(front, lambda: identities.door_token)
            answer(app, ports, listener(_unreadable, self._entropy), starting)
            self.s3_port, self.https_port = ports[0].number, ports[-1].number if ports[1:] else 0
            self.front = front
            self.store = store
            self._running = starting.pop_all()

    async def stop(self) -> None:
        """Answer no more; what was acknowledged is durable. May be called twice."""
        self.front = None
        await self._running.aclose()

    async def _open_store(self, starting: AsyncExitStack) -> Store:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        blobs = await self._open_blobs()
        starting.push_async_callback(blobs.close)
        url = self._config.database or f"sqlite:///{self._folder / DATABASE}"
        db = await Database.open(url, metadata=METADATA, migrations="mallee.walrus.db")
        starting.push_async_callback(db.close)
        box = SecretsBox.open(self._folder / SECRETS, self._entropy)
        store = Store(Ground(db, blobs, box, self._clock, self._entropy))
        starting.push_async_callback(store.rest)
        return store

    async def _open_blobs(self) -> Blobs:
        if self._config.s3 is not None:
            return await OtherS3.start(self._config.s3)
        return await Files.start(
            Path(self._config.objects) if self._config.objects else self._folder / OBJECTS
        )

    def _identities(self, starting: AsyncExitStack) -> Identities:
        channel = self._transport.connect(self._me, self._config.clc, expect="clc")
        starting.push_async_callback(channel.close)
        identities = Identities(
            channel,
            clock=self._clock,
            entropy=self._entropy,
            region=self._config.region,
            outlive=self._config.keys_outlive_seconds,
        )
        _in_background(starting, identities.run())
        return identities

    async def _serve_rpc(self, store: Store, starting: AsyncExitStack) -> None:
        register = (
            partial(add_IntrospectionServiceServicer_to_server, Introspection(self._me, self._clock)),
            partial(add_ObjectServiceServicer_to_server, Objects(store, self._clock)),
        )
        self._served = await self._transport.serve(self._me, self._config.address, *register, access=ACCESS)
        starting.push_async_callback(self._served.close, grace=1.0)

    def _reconcile(self, store: Store, starting: AsyncExitStack) -> None:
        passes = {
            "garbage": (Garbage(store.ground).one_pass, 10.0),
            "orphans": (Orphans(store.ground).one_pass, 3600.0),
            "scrub": (Scrub(store.ground).one_pass, 60.0),
            "lifecycle": (Lifecycle(store).one_pass, self._config.lifecycle_seconds),
        }
        for name, (one_pass, every) in passes.items():
            _in_background(starting, Reconciler(name, one_pass, every=every, clock=self._clock).run())

    def _front(self, store: Store, identities: Identities, starting: AsyncExitStack) -> S3Front:
        registry = CollectorRegistry()
        registry.register(store.ground.metrics)
        registry.register(DatabaseMetrics(store.ground.db))
        front = S3Front(
            operations(),
            wire=RestXml(model.load("s3")),
            keys=identities,
            access=Gate(),
            clock=self._clock,
            entropy=self._entropy,
            store=store,
            identity=identities,
            domains=self._config.domains,
            regions=self._config.regions_accepted or None,
            registry=registry,
        )
        starting.callback(front.close)
        return front


def _unreadable(request: str) -> bytes:
    """S3's words for bytes that are no request at all."""
    return error_xml(S3Error("BadRequest"), resource="", request_id=request, host_id=request)


def _in_background(starting: AsyncExitStack, loop: Coroutine[Any, Any, None]) -> None:
    """Run until the store stops; none of these ends by itself but by a bug, which is logged."""
    task = asyncio.create_task(loop)
    task.add_done_callback(_tell_of_end)

    async def end() -> None:
        task.cancel()
        await asyncio.wait((task,))

    starting.push_async_callback(end)


def _tell_of_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a background task ended", task=task.get_name(), exc_info=task.exception())
