"""The cloud controller as a whole: start it, stop it."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from mallee.aws import model
from mallee.aws.actions import ActionTable
from mallee.aws.context import Request
from mallee.aws.errors import InvalidRequest
from mallee.aws.exchange import App
from mallee.aws.listener import listener
from mallee.aws.listener.doors import answer, bind
from mallee.aws.pages import Pager
from mallee.aws.protocol import Protocol, envelope
from mallee.aws.server import Front
from mallee.aws.service import Service
from mallee.aws.throttle import Limit, Limits, ResourceLimit
from mallee.clc import bootstrap, enrolment, service
from mallee.clc.api import ec2, iam, sts
from mallee.clc.audit.auditor import LOOK_SECONDS, Auditor
from mallee.clc.audit.metrics import AuditMetrics
from mallee.clc.authorise import RootOnly
from mallee.clc.bootstrap import Founded
from mallee.clc.call import Call
from mallee.clc.cloud import Cloud
from mallee.clc.clusters import ClusterClient, Clusters
from mallee.clc.config import ClcConfig
from mallee.clc.db import METADATA
from mallee.clc.db.sagas import SAGAS
from mallee.clc.enrolment import Enrolment, Renewal
from mallee.clc.facts import Facts
from mallee.clc.instance_types import InstanceTypes
from mallee.clc.keys import Keys
from mallee.clc.reconcile.siblings import BEAT_SECONDS, Siblings
from mallee.clc.reconcile.sweeps import Sweeps
from mallee.clc.rendered import Rendered
from mallee.clc.s3.door import Door
from mallee.clc.s3.identity import ACCESS as IDENTITY_ACCESS
from mallee.clc.s3.identity import IdentityEdge
from mallee.clc.s3.objects import ObjectsClient, ObjectStore
from mallee.clc.sagas import copy_image, create_image
from mallee.clc.sagas.making_images import Workshop
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.db.metrics import DatabaseMetrics
from mallee.kernel.entropy import Entropy
from mallee.kernel.pki import Authority
from mallee.kernel.reconcile import Reconciler
from mallee.kernel.rpc import Identity, Transport
from mallee.kernel.saga.engine import Engine
from mallee.kernel.secrets_box import SecretsBox
from mallee.kernel.state_folder import own_id
from mallee.rpc.common_pb2_grpc import add_IntrospectionServiceServicer_to_server
from mallee.rpc.enrolment_pb2_grpc import add_EnrolmentServiceServicer_to_server
from mallee.rpc.identity_pb2_grpc import add_IdentityServiceServicer_to_server

DATABASE, SECRETS = "clc.db", "secrets"
# Source: "Request throttling for the Amazon EC2 API".
THROTTLED = Limits(
    reading=Limit(100, 20.0),
    changing=Limit(50, 5.0),
    actions={"RunInstances": Limit(5, 2.0)},
    resources={"RunInstances": ResourceLimit(Limit(1000, 2.0), "MaxCount")},
)
_UNREADABLE = InvalidRequest("The bytes that were sent are not a request of HTTP/1.1.")
_log = structlog.get_logger()


def tables() -> dict[str, ActionTable]:
    """Every service's actions; adding a file to its package is all that a new family needs."""
    for package in (ec2, iam, sts):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    return {"ec2": ec2.ec2, "iam": iam.iam, "sts": sts.sts}


class CloudController:
    """One cloud controller.

    Args:
        folder: what it alone writes.
        authority: signs the certificates of joining nodes; without it none can join here.
        s3: the object store's application, where it runs in this process.
    """

    def __init__(
        self,
        config: ClcConfig,
        me: Identity,
        *,
        folder: Path,
        clock: Clock,
        entropy: Entropy,
        transport: Transport,
        authority: Authority | None = None,
        s3: Callable[[], App | None] = lambda: None,
    ) -> None:
        self._s3 = s3
        self._config = config
        self._me = me
        self._folder = folder
        self._clock = clock
        self._entropy = entropy
        self._transport = transport
        self._authority = authority
        self._running = AsyncExitStack()
        self.cloud: Cloud | None = None
        self.port = config.port
        self.https_port = 0

    async def start(self) -> None:
        """Answer requests. Raises Fault when it cannot; nothing is left behind then."""
        async with AsyncExitStack() as starting:
            ports = bind(
                "The EC2 endpoint", self._config.host, self._config.port, self._config.https, starting
            )
            self.port, self.https_port = ports[0].number, ports[-1].number if ports[1:] else 0
            db = await self._open_database()
            starting.push_async_callback(db.close)
            box = SecretsBox.open(Path(self._config.secrets or self._folder / SECRETS), self._entropy)
            founded = await bootstrap.found(db, self._config, box, clock=self._clock, entropy=self._entropy)
            bootstrap.keep(founded.first, self._folder)
            clients = await self._clients(db, starting)
            objects = self._objects(starting)
            taker = await self._serve_enrolment(db, starting)
            cloud = self.cloud = self._cloud(db, box, founded, clients, taker, objects)
            loops = (cloud.sagas.run(), *(client.run() for client in clients))
            for loop in (*loops, *self._reconcilers(db, cloud)):
                _in_background(starting, loop)
            await self._serve_rpc(cloud, founded.door_token, starting)
            door = Door(self._s3, self._config.s3, founded.door_token)
            starting.push_async_callback(door.close)
            refusal = partial(envelope.ec2_error, _UNREADABLE)
            answer(self._front(cloud, door), ports, listener(refusal, self._entropy), starting)
            self._running = starting.pop_all()

    async def stop(self) -> None:
        """Answer no more; what was answered is durable. May be called twice."""
        await self._running.aclose()

    async def _open_database(self) -> Database:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        url = self._config.database or f"sqlite:///{self._folder / DATABASE}"
        return await Database.open(url, metadata=METADATA, migrations="mallee.clc.db")

    async def _clients(self, db: Database, starting: AsyncExitStack) -> list[ClusterClient]:
        facts, clients = Facts(db, self._clock), []
        for cluster in self._config.clusters:
            channel = self._transport.connect(self._me, cluster.address, expect="cc")
            starting.push_async_callback(channel.close)
            clients.append(ClusterClient(cluster.zone, channel, db=db, clock=self._clock, sink=facts))
        return clients

    def _objects(self, starting: AsyncExitStack) -> ObjectStore | None:
        """The object store, which need not answer yet."""
        if not self._config.objects:
            return None
        channel = self._transport.connect(self._me, self._config.objects, expect="walrus")
        starting.push_async_callback(channel.close)
        return ObjectsClient(channel, self._config.region)

    def _engine(self, db: Database, clusters: Clusters, objects: ObjectStore | None) -> Engine:
        shop = Workshop(db, clusters, self._clock, objects)
        return Engine(
            db,
            SAGAS,
            [copy_image.saga(shop), create_image.saga(shop)],
            owner=f"clc-{own_id(self._folder, self._entropy)}",
            clock=self._clock,
            entropy=self._entropy,
        )

    def _cloud(
        self,
        db: Database,
        box: SecretsBox,
        founded: Founded,
        clients: list[ClusterClient],
        taker: Enrolment | None,
        objects: ObjectStore | None,
    ) -> Cloud:
        clusters = Clusters(clients)
        return Cloud(
            config=self._config,
            clock=self._clock,
            entropy=self._entropy,
            db=db,
            box=box,
            keys=Keys(db, box, self._clock),
            clusters=clusters,
            auditor=Auditor(db, clusters, self._clock),
            types=InstanceTypes.load(self._config.instance_types),
            pages=Pager(founded.page_key),
            rendered=Rendered(self._config.rendered_bytes),
            wire=Protocol(model.load("ec2")),
            admin_account=founded.first.account_id,
            sagas=self._engine(db, clusters, objects),
            objects=objects,
            enrolment=taker,
        )

    def _reconcilers(self, db: Database, cloud: Cloud) -> list[Coroutine[Any, Any, None]]:
        sweeps = Sweeps(db, self._clock, visible_seconds=self._config.terminated_visible_seconds)
        passes = {
            "ended instances": (sweeps.forget_ended, 30.0),
            "old tokens": (sweeps.forget_tokens, 300.0),
            "ended sagas": (sweeps.forget_sagas, 3600.0),
            "audit": (cloud.auditor.sweep, LOOK_SECONDS),
        }
        if self._config.database:  # else the folder's lock says that there is no other
            siblings = Siblings(db, own_id(self._folder, self._entropy), self._clock, cloud.clusters.tell_all)
            passes["siblings"] = siblings.look, BEAT_SECONDS
        return [
            Reconciler(name, one_pass, every=every, clock=self._clock).run()
            for name, (one_pass, every) in passes.items()
        ]

    async def _serve_rpc(self, cloud: Cloud, door_token: str, starting: AsyncExitStack) -> None:
        if not self._config.address:
            return
        introspection = service.Introspection(self._me, self._clock)
        keys = IdentityEdge(cloud.db, cloud.box, self._clock, door_token)
        register = [
            partial(add_IntrospectionServiceServicer_to_server, introspection),
            partial(add_IdentityServiceServicer_to_server, keys),
        ]
        if self._authority is not None:
            register.append(partial(add_EnrolmentServiceServicer_to_server, Renewal(self._authority)))
        access = service.ACCESS | IDENTITY_ACCESS | enrolment.RENEWAL_ACCESS
        served = await self._transport.serve(self._me, self._config.address, *register, access=access)
        starting.push_async_callback(served.close, grace=1.0)

    async def _serve_enrolment(self, db: Database, starting: AsyncExitStack) -> Enrolment | None:
        if not self._config.enrolment_address or self._authority is None:
            return None
        taker = Enrolment(self._config, self._authority, db, clock=self._clock, entropy=self._entropy)
        served = await self._transport.serve(
            self._me,
            self._config.enrolment_address,
            partial(add_EnrolmentServiceServicer_to_server, taker),
            access=enrolment.ACCESS,
            client_certificates=False,
        )
        starting.push_async_callback(served.close, grace=1.0)
        taker.address = served.address
        return taker

    def _front(self, cloud: Cloud, door: Door) -> Front:
        async def ready() -> str:
            dark = [each.zone for each in cloud.clusters if each.state is None]
            return f"cannot reach {', '.join(dark)}" if dark else ""

        registry = CollectorRegistry()
        registry.register(DatabaseMetrics(cloud.db))
        registry.register(AuditMetrics(cloud.auditor))
        return Front(
            self._services(cloud),
            keys=cloud.keys,
            authoriser=RootOnly(cloud.admin_account),
            clock=self._clock,
            entropy=self._entropy,
            ready=ready,
            limits=THROTTLED if self._config.throttle else Limits(),
            s3=door,
            s3_domains=self._config.s3_domains,
            regions=self._config.regions_accepted or None,
            region=self._config.region,
            allow_sigv2=self._config.allow_sigv2,
            registry=registry,
        )

    def _services(self, cloud: Cloud) -> Mapping[str, Service]:
        services = {}
        for name, table in tables().items():
            wire = cloud.wire if name == "ec2" else Protocol(model.load(name))
            services[name] = Service(table, wire, _calls(table, cloud))
        return services


def _calls(table: ActionTable, cloud: Cloud) -> Callable[[Request], Call]:
    def make(request: Request) -> Call:
        return Call(request, cloud, secret_result=table.handlers[request.operation].secret_result)

    return make


def _in_background(starting: AsyncExitStack, loop: Coroutine[Any, Any, None]) -> None:
    """Run until the controller stops; none of these ends by itself but by a bug, which is logged."""
    task = asyncio.create_task(loop)
    task.add_done_callback(_tell_of_end)

    async def end() -> None:
        task.cancel()
        await asyncio.wait((task,))

    starting.push_async_callback(end)


def _tell_of_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a background task ended", task=task.get_name(), exc_info=task.exception())
