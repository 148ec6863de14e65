"""A cloud controller without its wire: handlers are called, clusters do what the test says."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mallee.aws import model
from mallee.aws.context import Principal, Request
from mallee.aws.pages import Pager
from mallee.aws.protocol import Protocol
from mallee.clc.app import tables
from mallee.clc.audit.auditor import Auditor
from mallee.clc.audit.books import ZoneReport
from mallee.clc.call import Call
from mallee.clc.cloud import Cloud
from mallee.clc.clusters import Clusters
from mallee.clc.config import ClcConfig
from mallee.clc.db import images, key_pairs, tenants
from mallee.clc.db import instances as records
from mallee.clc.db.images import Image
from mallee.clc.db.instances import InstanceRow
from mallee.clc.db.key_pairs import KeyPair
from mallee.clc.db.sagas import SAGAS
from mallee.clc.facts import Facts
from mallee.clc.instance_types import InstanceTypes
from mallee.clc.keys import Keys
from mallee.clc.rendered import Rendered
from mallee.clc.sagas import copy_image, create_image
from mallee.clc.sagas.making_images import Workshop
from mallee.domain.guest import Power
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault
from mallee.kernel.saga.engine import Engine
from mallee.kernel.secrets_box import SecretsBox
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_objects import PretendObjects

TABLES = tables()
ZONES = ("mallee-1a", "mallee-1b")
IMAGE = "ami-00000000000000001"
WIRE = Protocol(model.load("ec2"))
_PHASES = {
    Power.RUNNING: common_pb2.PHASE_RUNNING,
    Power.STOPPED: common_pb2.PHASE_STOPPED,
    Power.TERMINATED: common_pb2.PHASE_TERMINATED,
}


@dataclass
class PretendCluster:
    """A zone with room for so many instances, whatever their size."""

    zone: str
    room: int = 1000
    claims: dict[str, int] = field(default_factory=dict)
    hinted: set[str] = field(default_factory=set)
    told: dict[str, pb.DesiredInstance] = field(default_factory=dict)
    generation: int = 0
    failure: Exception | None = None
    migrations_asked: list[pb.MigrateRequest] = field(default_factory=list)
    listed_nodes: list[pb.Node] = field(default_factory=list)
    listed_migrations: list[pb.Migration] = field(default_factory=list)
    report: ZoneReport = field(init=False)
    captures: list[pb.CaptureRootRequest] = field(default_factory=list)
    capture_fails: Fault | None = None
    objects: PretendObjects | None = None
    answer_to_migrate: pb.MigrateResponse = field(default_factory=pb.MigrateResponse)

    def __post_init__(self) -> None:
        self.report = ZoneReport(self.zone)

    @property
    def state(self) -> pb.ZoneFact | None:
        if self.failure is not None:
            return None
        free = common_pb2.Resources(vcpus=self.left, memory_mib=self.left)
        return pb.ZoneFact(zone=self.zone, free=free)

    @property
    def left(self) -> int:
        return self.room - len(self.claims)

    async def place(self, ask: pb.Ask) -> pb.Outcome:
        if self.failure is not None:
            raise self.failure
        ids = list(ask.instance_ids)[: self.left]
        if len(ids) < ask.min_count:
            return pb.Outcome(group_id=ask.group_id, refusal=common_pb2.Cause(code="no-capacity"))
        placements = []
        for each in ids:
            self.generation += 1
            self.claims[each] = self.generation
            host = ask.host_id or f"h-{self.zone}-{self.generation % 3}"
            placements.append(pb.Placement(instance_id=each, host_id=host, generation=self.generation))
        return pb.Outcome(group_id=ask.group_id, placements=placements)

    async def release(self, instance_ids: Sequence[str]) -> None:
        for each in instance_ids:
            self.claims.pop(each, None)

    def hint(self, instance_ids: Iterable[str]) -> None:
        self.hinted.update(instance_ids)

    def tell_all(self) -> None:
        """Nobody listens."""

    def tell(self, wishes: Sequence[pb.DesiredInstance]) -> None:
        self.hinted.update(each.instance_id for each in wishes)
        self.told |= {each.instance_id: each for each in wishes}

    async def nodes(self, request: pb.ListNodesRequest) -> Sequence[pb.Node]:
        wanted = set(request.host_ids)
        nodes = [node for node in self.listed_nodes if not wanted or node.host_id in wanted]
        return [node for node in nodes if node.host_id > request.after_host_id][: request.max_results or None]

    async def cordon(self, host_id: str, *, cordoned: bool) -> pb.Node:
        raise NotImplementedError

    async def migrate(self, request: pb.MigrateRequest) -> pb.MigrateResponse:
        self.migrations_asked.append(request)
        return self.answer_to_migrate

    async def migrations(self, request: pb.ListMigrationsRequest) -> Sequence[pb.Migration]:
        ids, instance_ids = set(request.migration_ids), set(request.instance_ids)
        return [
            each
            for each in self.listed_migrations
            if (not ids or each.migration_id in ids)
            and (not instance_ids or each.instance_id in instance_ids)
        ]

    async def steer(self, request: pb.SteerMigrationRequest) -> pb.Migration:
        return pb.Migration(migration_id=request.migration_id, state="cancelled")

    async def audit(self) -> ZoneReport:
        if self.failure is not None:
            raise self.failure
        return self.report

    async def capture(self, request: pb.CaptureRootRequest) -> common_pb2.ImageFile:
        self.captures.append(request)
        if self.capture_fails is not None:
            raise self.capture_fails
        assert self.objects is not None
        disk = f"disk of {request.instance_id}".encode().ljust(512, b"\0")
        self.objects.put(request.owner, request.bucket, request.key, disk)
        found = await self.objects.stat(request.bucket, request.key, reader=request.owner)
        return common_pb2.ImageFile(**dataclasses.asdict(found.pinned("raw", 512)))

    async def console(self, instance_id: str) -> pb.GetConsoleOutputResponse:
        return pb.GetConsoleOutputResponse(output=f"hello from {instance_id}".encode(), at_ms=1000)

    async def screenshot(self, instance_id: str) -> bytes:
        return f"screen of {instance_id}".encode()


class PretendCloud:
    """One cloud controller in a test's hands."""

    def __init__(
        self,
        cloud: Cloud,
        clusters: dict[str, PretendCluster],
        clock: ManualClock,
        objects: PretendObjects,
    ) -> None:
        self.cloud = cloud
        self.objects = objects
        self.clusters = clusters
        self.clock = clock
        self.facts = Facts(cloud.db, clock)

    @classmethod
    async def make(
        cls, db: Database, folder: Path, cidr: str = "172.31.0.0/18", **config: Any
    ) -> PretendCloud:
        entropy, clock = SeededEntropy(7), ManualClock()
        clusters = {zone: PretendCluster(zone) for zone in ZONES}
        box = SecretsBox.open(folder / "box", entropy)
        tenant, _ = tenants.prepare(
            "admin",
            entropy=entropy,
            seal=box.seal,
            zones=ZONES,
            cidr=cidr,
            now_ms=0,
            is_admin=True,
        )
        public = Image(IMAGE, tenant.account.id, "amazon", "tiny", "", "builtin:tiny", public=True)
        await db.transact(lambda tx: tenants.create(tx, tenant))
        await db.transact(lambda tx: images.add(tx, public))
        zones = Clusters(clusters.values())
        objects = PretendObjects()
        for cluster in clusters.values():
            cluster.objects = objects
        shop = Workshop(db, zones, clock, objects)
        sagas = [copy_image.saga(shop), create_image.saga(shop)]
        cloud = Cloud(
            sagas=Engine(db, SAGAS, sagas, owner="clc", clock=clock, entropy=entropy),
            objects=objects,
            config=ClcConfig(**config),
            clock=clock,
            entropy=entropy,
            db=db,
            box=box,
            keys=Keys(db, box, clock),
            clusters=zones,
            auditor=Auditor(db, zones, clock),
            types=InstanceTypes.load(),
            pages=Pager(b"k" * 32),
            rendered=Rendered(1 << 27),
            wire=WIRE,
            admin_account=tenant.account.id,
        )
        return cls(cloud, clusters, clock, objects)

    async def account(self, name: str = "other") -> str:
        """Another account with its default network and a key pair `mine`."""
        tenant, _ = tenants.prepare(
            name,
            entropy=self.cloud.entropy,
            seal=self.cloud.box.seal,
            zones=ZONES,
            cidr="172.31.0.0/18",
            now_ms=0,
        )
        key = KeyPair(tenant.account.id, "mine", f"key-{name}", "ed25519", "aa", "ssh-ed25519 AAAA mine", 0)
        await self.cloud.db.transact(lambda tx: tenants.create(tx, tenant))
        await self.cloud.db.transact(lambda tx: key_pairs.add(tx, key))
        return tenant.account.id

    def request(self, operation: str, account: str, token: str | None, parameters: dict[str, Any]) -> Request:
        plain = {key: value for key, value in parameters.items() if key not in {"NextToken", "MaxResults"}}
        digest = hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()
        principal = Principal(account, f"arn:aws:iam::{account}:root", account, "AKIATEST", is_root=True)
        return Request(
            request_id="r",
            service="ec2",
            operation=operation,
            version="2016-11-15",
            region="mallee-1",
            principal=principal,
            client_token=token,
            parameter_hash=digest,
        )

    async def ask(
        self, operation: str, *, account: str = "", token: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """What a handler answers, fragments and all."""
        request = self.request(operation, account or self.cloud.admin_account, token, parameters)
        call = Call(request, self.cloud)
        return await TABLES["ec2"].handlers[operation].handler(call, parameters)  # type: ignore[no-any-return]

    async def text(self, operation: str, **parameters: Any) -> str:
        """The answer as it goes over the wire."""
        answer = await self.ask(operation, **parameters)
        return WIRE.serialize(operation, answer, "r").decode()

    async def run(self, count: int = 1, *, account: str = "", **parameters: Any) -> list[str]:
        """Launch instances; their ids."""
        text = await self.text(
            "RunInstances",
            account=account,
            **{"MinCount": count, "MaxCount": count, "ImageId": IMAGE, "InstanceType": "t3.micro"}
            | parameters,
        )
        return ids_in(text)

    async def rows(self, *ids: str) -> list[InstanceRow]:
        found = await self.cloud.db.read(lambda tx: records.find(tx, ids))
        by_id = {row.id: row for row in found}
        return [by_id[each] for each in ids]

    async def row(self, instance_id: str) -> InstanceRow:
        return (await self.rows(instance_id))[0]

    def fact(self, row: InstanceRow, phase: int | None = None, **changes: Any) -> pb.InstanceFact:
        """What a cluster says that has done what was wished, or what the test says."""
        fact = pb.InstanceFact(
            instance_id=row.id,
            revision=row.revision,
            generation=row.generation,
            host_id=row.host_id,
            phase=_PHASES[Power(row.power)] if phase is None else phase,  # type: ignore[arg-type]
            reachable=True,
            reboots=row.reboots,
            migration_id=row.migration_id,
            description=records.decode(row.details).description,
        )
        for name, value in changes.items():
            if name == "cause":
                fact.cause.CopyFrom(common_pb2.Cause(code=value, message=f"because of {value}"))
            else:
                setattr(fact, name, value)
        return fact

    async def settle(self) -> None:
        """Every cluster does what is wished."""
        for zone in ZONES:
            while ids := await self.cloud.db.read(lambda tx: records.unsettled(tx, zone)):  # noqa: B023
                rows = await self.rows(*ids)
                await self.facts.take([self.fact(row) for row in rows])
                for row in rows:
                    if row.power != Power.RUNNING:
                        self.clusters[zone].claims.pop(row.id, None)


def ids_in(text: str) -> list[str]:
    """The instance ids of an answer, in order."""
    return [part.split("<", 1)[0] for part in text.split("<instanceId>")[1:]]
