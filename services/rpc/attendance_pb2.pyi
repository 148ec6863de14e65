from mallee.rpc import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttendRequest(_message.Message):
    __slots__ = ("hello", "renewal", "facts", "inventory_end")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_END_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    renewal: Renewal
    facts: _containers.RepeatedCompositeFieldContainer[GuestFact]
    inventory_end: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., renewal: _Optional[_Union[Renewal, _Mapping]] = ..., facts: _Optional[_Iterable[_Union[GuestFact, _Mapping]]] = ..., inventory_end: _Optional[bool] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "boot_id", "address", "hypervisor", "cpu_model", "capacity", "inventory", "version", "inventory_follows", "guards")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HYPERVISOR_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FOLLOWS_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    node: str
    boot_id: str
    address: str
    hypervisor: str
    cpu_model: str
    capacity: _common_pb2.Resources
    inventory: _containers.RepeatedCompositeFieldContainer[GuestFact]
    version: str
    inventory_follows: bool
    guards: bool
    def __init__(self, node: _Optional[str] = ..., boot_id: _Optional[str] = ..., address: _Optional[str] = ..., hypervisor: _Optional[str] = ..., cpu_model: _Optional[str] = ..., capacity: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., inventory: _Optional[_Iterable[_Union[GuestFact, _Mapping]]] = ..., version: _Optional[str] = ..., inventory_follows: _Optional[bool] = ..., guards: _Optional[bool] = ...) -> None: ...

class Renewal(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class GuestFact(_message.Message):
    __slots__ = ("instance_id", "generation", "revision", "phase", "cause", "moments", "reboots", "resources", "description")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    REBOOTS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    generation: int
    revision: int
    phase: _common_pb2.Phase
    cause: _common_pb2.Cause
    moments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Moment]
    reboots: int
    resources: _common_pb2.Resources
    description: int
    def __init__(self, instance_id: _Optional[str] = ..., generation: _Optional[int] = ..., revision: _Optional[int] = ..., phase: _Optional[_Union[_common_pb2.Phase, str]] = ..., cause: _Optional[_Union[_common_pb2.Cause, _Mapping]] = ..., moments: _Optional[_Iterable[_Union[_common_pb2.Moment, _Mapping]]] = ..., reboots: _Optional[int] = ..., resources: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., description: _Optional[int] = ...) -> None: ...

class AttendResponse(_message.Message):
    __slots__ = ("welcome", "grant", "orders", "say_inventory", "guards")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    SAY_INVENTORY_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    grant: Grant
    orders: Orders
    say_inventory: bool
    guards: _common_pb2.Guards
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., orders: _Optional[_Union[Orders, _Mapping]] = ..., say_inventory: _Optional[bool] = ..., guards: _Optional[_Union[_common_pb2.Guards, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("host_id", "lease_seconds", "renew_seconds")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RENEW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    lease_seconds: float
    renew_seconds: float
    def __init__(self, host_id: _Optional[str] = ..., lease_seconds: _Optional[float] = ..., renew_seconds: _Optional[float] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class Orders(_message.Message):
    __slots__ = ("whole", "orders")
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    whole: bool
    orders: _containers.RepeatedCompositeFieldContainer[GuestOrder]
    def __init__(self, whole: _Optional[bool] = ..., orders: _Optional[_Iterable[_Union[GuestOrder, _Mapping]]] = ...) -> None: ...

class GuestOrder(_message.Message):
    __slots__ = ("instance_id", "generation", "revision", "power", "force", "reboots", "guest")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    REBOOTS_FIELD_NUMBER: _ClassVar[int]
    GUEST_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    generation: int
    revision: int
    power: _common_pb2.Power
    force: bool
    reboots: int
    guest: bytes
    def __init__(self, instance_id: _Optional[str] = ..., generation: _Optional[int] = ..., revision: _Optional[int] = ..., power: _Optional[_Union[_common_pb2.Power, str]] = ..., force: _Optional[bool] = ..., reboots: _Optional[int] = ..., guest: _Optional[bytes] = ...) -> None: ...
