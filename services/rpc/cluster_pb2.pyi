from mallee.rpc import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlaceRequest(_message.Message):
    __slots__ = ("asks",)
    ASKS_FIELD_NUMBER: _ClassVar[int]
    asks: _containers.RepeatedCompositeFieldContainer[Ask]
    def __init__(self, asks: _Optional[_Iterable[_Union[Ask, _Mapping]]] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("group_id", "min_count", "instance_ids", "resources", "host_id", "cpu_model", "near_instance_ids", "apart_instance_ids")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_COUNT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    NEAR_INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    APART_INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    min_count: int
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    resources: _common_pb2.Resources
    host_id: str
    cpu_model: str
    near_instance_ids: _containers.RepeatedScalarFieldContainer[str]
    apart_instance_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, group_id: _Optional[str] = ..., min_count: _Optional[int] = ..., instance_ids: _Optional[_Iterable[str]] = ..., resources: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., host_id: _Optional[str] = ..., cpu_model: _Optional[str] = ..., near_instance_ids: _Optional[_Iterable[str]] = ..., apart_instance_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class PlaceResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("group_id", "placements", "refusal")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    placements: _containers.RepeatedCompositeFieldContainer[Placement]
    refusal: _common_pb2.Cause
    def __init__(self, group_id: _Optional[str] = ..., placements: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ..., refusal: _Optional[_Union[_common_pb2.Cause, _Mapping]] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("instance_id", "host_id", "generation")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    host_id: str
    generation: int
    def __init__(self, instance_id: _Optional[str] = ..., host_id: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class PlaceInTurnRequest(_message.Message):
    __slots__ = ("asks",)
    ASKS_FIELD_NUMBER: _ClassVar[int]
    asks: _containers.RepeatedCompositeFieldContainer[Ask]
    def __init__(self, asks: _Optional[_Iterable[_Union[Ask, _Mapping]]] = ...) -> None: ...

class PlaceInTurnResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("instance_ids",)
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instance_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConvergeRequest(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[DesiredInstance]
    def __init__(self, instances: _Optional[_Iterable[_Union[DesiredInstance, _Mapping]]] = ...) -> None: ...

class DesiredInstance(_message.Message):
    __slots__ = ("instance_id", "revision", "power", "force", "reboots", "resources", "guest", "host_id", "generation")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    REBOOTS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    GUEST_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    revision: int
    power: _common_pb2.Power
    force: bool
    reboots: int
    resources: _common_pb2.Resources
    guest: bytes
    host_id: str
    generation: int
    def __init__(self, instance_id: _Optional[str] = ..., revision: _Optional[int] = ..., power: _Optional[_Union[_common_pb2.Power, str]] = ..., force: _Optional[bool] = ..., reboots: _Optional[int] = ..., resources: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., guest: _Optional[bytes] = ..., host_id: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class ConvergeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConvergeInTurnRequest(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[DesiredInstance]
    def __init__(self, instances: _Optional[_Iterable[_Union[DesiredInstance, _Mapping]]] = ...) -> None: ...

class ConvergeInTurnResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("epoch", "sequence", "snapshot", "snapshot_end", "facts", "zone")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    sequence: int
    snapshot: bool
    snapshot_end: bool
    facts: _containers.RepeatedCompositeFieldContainer[InstanceFact]
    zone: ZoneFact
    def __init__(self, epoch: _Optional[str] = ..., sequence: _Optional[int] = ..., snapshot: _Optional[bool] = ..., snapshot_end: _Optional[bool] = ..., facts: _Optional[_Iterable[_Union[InstanceFact, _Mapping]]] = ..., zone: _Optional[_Union[ZoneFact, _Mapping]] = ...) -> None: ...

class InstanceFact(_message.Message):
    __slots__ = ("instance_id", "revision", "generation", "host_id", "phase", "reachable", "cause", "moments", "reboots", "migration_id", "description")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    REBOOTS_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    revision: int
    generation: int
    host_id: str
    phase: _common_pb2.Phase
    reachable: bool
    cause: _common_pb2.Cause
    moments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Moment]
    reboots: int
    migration_id: str
    description: int
    def __init__(self, instance_id: _Optional[str] = ..., revision: _Optional[int] = ..., generation: _Optional[int] = ..., host_id: _Optional[str] = ..., phase: _Optional[_Union[_common_pb2.Phase, str]] = ..., reachable: _Optional[bool] = ..., cause: _Optional[_Union[_common_pb2.Cause, _Mapping]] = ..., moments: _Optional[_Iterable[_Union[_common_pb2.Moment, _Mapping]]] = ..., reboots: _Optional[int] = ..., migration_id: _Optional[str] = ..., description: _Optional[int] = ...) -> None: ...

class ZoneFact(_message.Message):
    __slots__ = ("zone", "nodes", "nodes_ready", "capacity", "free", "guards")
    ZONE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NODES_READY_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    zone: str
    nodes: int
    nodes_ready: int
    capacity: _common_pb2.Resources
    free: _common_pb2.Resources
    guards: bool
    def __init__(self, zone: _Optional[str] = ..., nodes: _Optional[int] = ..., nodes_ready: _Optional[int] = ..., capacity: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., free: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., guards: _Optional[bool] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("host_ids", "max_results", "after_host_id", "with_instances")
    HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    AFTER_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    WITH_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    host_ids: _containers.RepeatedScalarFieldContainer[str]
    max_results: int
    after_host_id: str
    with_instances: bool
    def __init__(self, host_ids: _Optional[_Iterable[str]] = ..., max_results: _Optional[int] = ..., after_host_id: _Optional[str] = ..., with_instances: _Optional[bool] = ...) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("host_id", "name", "zone", "state", "hypervisor", "cpu_model", "capacity", "free", "joined_ms", "instances", "address")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HYPERVISOR_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    JOINED_MS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    name: str
    zone: str
    state: str
    hypervisor: str
    cpu_model: str
    capacity: _common_pb2.Resources
    free: _common_pb2.Resources
    joined_ms: int
    instances: _containers.RepeatedCompositeFieldContainer[HostedInstance]
    address: str
    def __init__(self, host_id: _Optional[str] = ..., name: _Optional[str] = ..., zone: _Optional[str] = ..., state: _Optional[str] = ..., hypervisor: _Optional[str] = ..., cpu_model: _Optional[str] = ..., capacity: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., free: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., joined_ms: _Optional[int] = ..., instances: _Optional[_Iterable[_Union[HostedInstance, _Mapping]]] = ..., address: _Optional[str] = ...) -> None: ...

class HostedInstance(_message.Message):
    __slots__ = ("instance_id", "generation", "resources", "phase")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    generation: int
    resources: _common_pb2.Resources
    phase: str
    def __init__(self, instance_id: _Optional[str] = ..., generation: _Optional[int] = ..., resources: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., phase: _Optional[str] = ...) -> None: ...

class CordonNodeRequest(_message.Message):
    __slots__ = ("host_id", "cordoned")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    cordoned: bool
    def __init__(self, host_id: _Optional[str] = ..., cordoned: _Optional[bool] = ...) -> None: ...

class CordonNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ...) -> None: ...

class MigrateRequest(_message.Message):
    __slots__ = ("migration_id", "instance_id", "mode", "destination_host_ids", "excluded_host_ids", "limits", "plan_only")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    instance_id: str
    mode: str
    destination_host_ids: _containers.RepeatedScalarFieldContainer[str]
    excluded_host_ids: _containers.RepeatedScalarFieldContainer[str]
    limits: MigrationLimits
    plan_only: bool
    def __init__(self, migration_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., mode: _Optional[str] = ..., destination_host_ids: _Optional[_Iterable[str]] = ..., excluded_host_ids: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[MigrationLimits, _Mapping]] = ..., plan_only: _Optional[bool] = ...) -> None: ...

class MigrationLimits(_message.Message):
    __slots__ = ("downtime_budget_ms", "bandwidth_mbps", "max_rounds", "auto_converge", "max_factor")
    DOWNTIME_BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    AUTO_CONVERGE_FIELD_NUMBER: _ClassVar[int]
    MAX_FACTOR_FIELD_NUMBER: _ClassVar[int]
    downtime_budget_ms: float
    bandwidth_mbps: float
    max_rounds: int
    auto_converge: bool
    max_factor: float
    def __init__(self, downtime_budget_ms: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ..., max_rounds: _Optional[int] = ..., auto_converge: _Optional[bool] = ..., max_factor: _Optional[float] = ...) -> None: ...

class MigrateResponse(_message.Message):
    __slots__ = ("migration", "refusals", "candidate_host_ids")
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_HOST_IDS_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    candidate_host_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., candidate_host_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("host_id", "cause")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    cause: _common_pb2.Cause
    def __init__(self, host_id: _Optional[str] = ..., cause: _Optional[_Union[_common_pb2.Cause, _Mapping]] = ...) -> None: ...

class Migration(_message.Message):
    __slots__ = ("migration_id", "instance_id", "mode", "state", "stage", "stage_name", "source_host_id", "destination_host_id", "started_ms", "ended_ms", "rounds", "memory_bytes", "bytes_sent", "bytes_remaining", "expected_downtime_ms", "downtime_ms", "throttle_percent", "cause", "stages", "stop_reason")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STAGE_NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_HOST_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_REMAINING_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DOWNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    DOWNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    instance_id: str
    mode: str
    state: str
    stage: int
    stage_name: str
    source_host_id: str
    destination_host_id: str
    started_ms: int
    ended_ms: int
    rounds: _containers.RepeatedCompositeFieldContainer[Round]
    memory_bytes: int
    bytes_sent: int
    bytes_remaining: int
    expected_downtime_ms: float
    downtime_ms: float
    throttle_percent: int
    cause: _common_pb2.Cause
    stages: _containers.RepeatedCompositeFieldContainer[_common_pb2.Moment]
    stop_reason: str
    def __init__(self, migration_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., mode: _Optional[str] = ..., state: _Optional[str] = ..., stage: _Optional[int] = ..., stage_name: _Optional[str] = ..., source_host_id: _Optional[str] = ..., destination_host_id: _Optional[str] = ..., started_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ..., rounds: _Optional[_Iterable[_Union[Round, _Mapping]]] = ..., memory_bytes: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., bytes_remaining: _Optional[int] = ..., expected_downtime_ms: _Optional[float] = ..., downtime_ms: _Optional[float] = ..., throttle_percent: _Optional[int] = ..., cause: _Optional[_Union[_common_pb2.Cause, _Mapping]] = ..., stages: _Optional[_Iterable[_Union[_common_pb2.Moment, _Mapping]]] = ..., stop_reason: _Optional[str] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("number", "pages_sent", "bytes_sent", "pages_dirtied", "duration_ms", "bandwidth_mbps", "throttle_percent")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PAGES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    PAGES_DIRTIED_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    pages_sent: int
    bytes_sent: int
    pages_dirtied: int
    duration_ms: float
    bandwidth_mbps: float
    throttle_percent: int
    def __init__(self, number: _Optional[int] = ..., pages_sent: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., pages_dirtied: _Optional[int] = ..., duration_ms: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ..., throttle_percent: _Optional[int] = ...) -> None: ...

class ListMigrationsRequest(_message.Message):
    __slots__ = ("migration_ids", "instance_ids", "max_results", "after_migration_id", "states")
    MIGRATION_IDS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    AFTER_MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    migration_ids: _containers.RepeatedScalarFieldContainer[str]
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    max_results: int
    after_migration_id: str
    states: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, migration_ids: _Optional[_Iterable[str]] = ..., instance_ids: _Optional[_Iterable[str]] = ..., max_results: _Optional[int] = ..., after_migration_id: _Optional[str] = ..., states: _Optional[_Iterable[str]] = ...) -> None: ...

class ListMigrationsResponse(_message.Message):
    __slots__ = ("migrations",)
    MIGRATIONS_FIELD_NUMBER: _ClassVar[int]
    migrations: _containers.RepeatedCompositeFieldContainer[Migration]
    def __init__(self, migrations: _Optional[_Iterable[_Union[Migration, _Mapping]]] = ...) -> None: ...

class SteerMigrationRequest(_message.Message):
    __slots__ = ("migration_id", "cancel", "force_complete")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    FORCE_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    cancel: bool
    force_complete: bool
    def __init__(self, migration_id: _Optional[str] = ..., cancel: _Optional[bool] = ..., force_complete: _Optional[bool] = ...) -> None: ...

class SteerMigrationResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class GetConsoleOutputRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class GetConsoleOutputResponse(_message.Message):
    __slots__ = ("output", "at_ms")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    at_ms: int
    def __init__(self, output: _Optional[bytes] = ..., at_ms: _Optional[int] = ...) -> None: ...

class GuardRequest(_message.Message):
    __slots__ = ("guards",)
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    guards: _common_pb2.Guards
    def __init__(self, guards: _Optional[_Union[_common_pb2.Guards, _Mapping]] = ...) -> None: ...

class GuardResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetConsoleScreenshotRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class GetConsoleScreenshotResponse(_message.Message):
    __slots__ = ("picture", "type")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    picture: bytes
    type: str
    def __init__(self, picture: _Optional[bytes] = ..., type: _Optional[str] = ...) -> None: ...

class FollowConsoleRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class FollowConsoleResponse(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    def __init__(self, output: _Optional[bytes] = ...) -> None: ...

class CaptureRootRequest(_message.Message):
    __slots__ = ("instance_id", "generation", "capture_id", "bucket", "key", "owner")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_ID_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    generation: int
    capture_id: str
    bucket: str
    key: str
    owner: str
    def __init__(self, instance_id: _Optional[str] = ..., generation: _Optional[int] = ..., capture_id: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class CaptureRootResponse(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "file")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    file: _common_pb2.ImageFile
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., file: _Optional[_Union[_common_pb2.ImageFile, _Mapping]] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditResponse(_message.Message):
    __slots__ = ("instances", "violations", "doubt_seconds", "end")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    DOUBT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[AuditedInstance]
    violations: _containers.RepeatedCompositeFieldContainer[Violation]
    doubt_seconds: float
    end: bool
    def __init__(self, instances: _Optional[_Iterable[_Union[AuditedInstance, _Mapping]]] = ..., violations: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ..., doubt_seconds: _Optional[float] = ..., end: _Optional[bool] = ...) -> None: ...

class AuditedInstance(_message.Message):
    __slots__ = ("instance_id", "revision", "generation", "host_id", "phase", "reachable", "migration_id")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    revision: int
    generation: int
    host_id: str
    phase: _common_pb2.Phase
    reachable: bool
    migration_id: str
    def __init__(self, instance_id: _Optional[str] = ..., revision: _Optional[int] = ..., generation: _Optional[int] = ..., host_id: _Optional[str] = ..., phase: _Optional[_Union[_common_pb2.Phase, str]] = ..., reachable: _Optional[bool] = ..., migration_id: _Optional[str] = ...) -> None: ...

class Violation(_message.Message):
    __slots__ = ("invariant", "subject", "what", "why", "fix")
    INVARIANT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    invariant: str
    subject: str
    what: str
    why: str
    fix: str
    def __init__(self, invariant: _Optional[str] = ..., subject: _Optional[str] = ..., what: _Optional[str] = ..., why: _Optional[str] = ..., fix: _Optional[str] = ...) -> None: ...
