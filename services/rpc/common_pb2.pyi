from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Power(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POWER_UNSPECIFIED: _ClassVar[Power]
    POWER_RUNNING: _ClassVar[Power]
    POWER_STOPPED: _ClassVar[Power]
    POWER_TERMINATED: _ClassVar[Power]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_CLAIMED: _ClassVar[Phase]
    PHASE_PROVISIONING: _ClassVar[Phase]
    PHASE_RUNNING: _ClassVar[Phase]
    PHASE_STOPPING: _ClassVar[Phase]
    PHASE_STOPPED: _ClassVar[Phase]
    PHASE_TERMINATED: _ClassVar[Phase]
    PHASE_FAILED: _ClassVar[Phase]
    PHASE_PAUSED: _ClassVar[Phase]
    PHASE_INCOMING: _ClassVar[Phase]
POWER_UNSPECIFIED: Power
POWER_RUNNING: Power
POWER_STOPPED: Power
POWER_TERMINATED: Power
PHASE_UNSPECIFIED: Phase
PHASE_CLAIMED: Phase
PHASE_PROVISIONING: Phase
PHASE_RUNNING: Phase
PHASE_STOPPING: Phase
PHASE_STOPPED: Phase
PHASE_TERMINATED: Phase
PHASE_FAILED: Phase
PHASE_PAUSED: Phase
PHASE_INCOMING: Phase

class Resources(_message.Message):
    __slots__ = ("vcpus", "memory_mib")
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    vcpus: int
    memory_mib: int
    def __init__(self, vcpus: _Optional[int] = ..., memory_mib: _Optional[int] = ...) -> None: ...

class Cause(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Moment(_message.Message):
    __slots__ = ("name", "at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    at_ms: int
    def __init__(self, name: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class Guest(_message.Message):
    __slots__ = ("instance_id", "account_id", "instance_type", "resources", "image_id", "image_location", "architecture", "hostname", "mac_address", "private_address", "subnet_cidr", "public_key", "key_name", "user_data", "tags", "root_device_name", "availability_zone", "launched_ms", "stays", "image", "root_gib", "metadata", "launch_index", "description")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_LOCATION_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SUBNET_CIDR_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_NAME_FIELD_NUMBER: _ClassVar[int]
    USER_DATA_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ROOT_DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_ZONE_FIELD_NUMBER: _ClassVar[int]
    LAUNCHED_MS_FIELD_NUMBER: _ClassVar[int]
    STAYS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ROOT_GIB_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    account_id: str
    instance_type: str
    resources: Resources
    image_id: str
    image_location: str
    architecture: str
    hostname: str
    mac_address: str
    private_address: str
    subnet_cidr: str
    public_key: str
    key_name: str
    user_data: bytes
    tags: _containers.ScalarMap[str, str]
    root_device_name: str
    availability_zone: str
    launched_ms: int
    stays: bool
    image: Image
    root_gib: int
    metadata: MetadataOptions
    launch_index: int
    description: int
    def __init__(self, instance_id: _Optional[str] = ..., account_id: _Optional[str] = ..., instance_type: _Optional[str] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., image_id: _Optional[str] = ..., image_location: _Optional[str] = ..., architecture: _Optional[str] = ..., hostname: _Optional[str] = ..., mac_address: _Optional[str] = ..., private_address: _Optional[str] = ..., subnet_cidr: _Optional[str] = ..., public_key: _Optional[str] = ..., key_name: _Optional[str] = ..., user_data: _Optional[bytes] = ..., tags: _Optional[_Mapping[str, str]] = ..., root_device_name: _Optional[str] = ..., availability_zone: _Optional[str] = ..., launched_ms: _Optional[int] = ..., stays: _Optional[bool] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., root_gib: _Optional[int] = ..., metadata: _Optional[_Union[MetadataOptions, _Mapping]] = ..., launch_index: _Optional[int] = ..., description: _Optional[int] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("root", "kernel", "ramdisk")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    RAMDISK_FIELD_NUMBER: _ClassVar[int]
    root: ImageFile
    kernel: ImageFile
    ramdisk: ImageFile
    def __init__(self, root: _Optional[_Union[ImageFile, _Mapping]] = ..., kernel: _Optional[_Union[ImageFile, _Mapping]] = ..., ramdisk: _Optional[_Union[ImageFile, _Mapping]] = ...) -> None: ...

class ImageFile(_message.Message):
    __slots__ = ("bucket", "key", "version_id", "size", "etag", "format", "virtual_bytes")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    format: str
    virtual_bytes: int
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[str] = ..., version_id: _Optional[str] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., format: _Optional[str] = ..., virtual_bytes: _Optional[int] = ...) -> None: ...

class MetadataOptions(_message.Message):
    __slots__ = ("disabled", "tokens_required", "hop_limit", "tags", "user_tags")
    class UserTagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    HOP_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    USER_TAGS_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    tokens_required: bool
    hop_limit: int
    tags: bool
    user_tags: _containers.ScalarMap[str, str]
    def __init__(self, disabled: _Optional[bool] = ..., tokens_required: _Optional[bool] = ..., hop_limit: _Optional[int] = ..., tags: _Optional[bool] = ..., user_tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Guards(_message.Message):
    __slots__ = ("groups", "guests", "hosts")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GUESTS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GuardGroup]
    guests: _containers.RepeatedCompositeFieldContainer[GuardedGuest]
    hosts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, groups: _Optional[_Iterable[_Union[GuardGroup, _Mapping]]] = ..., guests: _Optional[_Iterable[_Union[GuardedGuest, _Mapping]]] = ..., hosts: _Optional[_Iterable[str]] = ...) -> None: ...

class GuardGroup(_message.Message):
    __slots__ = ("group_id", "rules")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    rules: _containers.RepeatedCompositeFieldContainer[GuardRule]
    def __init__(self, group_id: _Optional[str] = ..., rules: _Optional[_Iterable[_Union[GuardRule, _Mapping]]] = ...) -> None: ...

class GuardRule(_message.Message):
    __slots__ = ("egress", "protocol", "from_port", "to_port", "cidr", "peer_group_id")
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FROM_PORT_FIELD_NUMBER: _ClassVar[int]
    TO_PORT_FIELD_NUMBER: _ClassVar[int]
    CIDR_FIELD_NUMBER: _ClassVar[int]
    PEER_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    egress: bool
    protocol: str
    from_port: int
    to_port: int
    cidr: str
    peer_group_id: str
    def __init__(self, egress: _Optional[bool] = ..., protocol: _Optional[str] = ..., from_port: _Optional[int] = ..., to_port: _Optional[int] = ..., cidr: _Optional[str] = ..., peer_group_id: _Optional[str] = ...) -> None: ...

class GuardedGuest(_message.Message):
    __slots__ = ("instance_id", "mac_address", "address", "group_ids")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    GROUP_IDS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    mac_address: str
    address: str
    group_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instance_id: _Optional[str] = ..., mac_address: _Optional[str] = ..., address: _Optional[str] = ..., group_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("role", "name", "cloud", "version", "uptime_seconds")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    cloud: str
    version: str
    uptime_seconds: float
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., cloud: _Optional[str] = ..., version: _Optional[str] = ..., uptime_seconds: _Optional[float] = ...) -> None: ...
