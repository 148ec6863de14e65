from mallee.rpc import common_pb2 as _common_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Subject(_message.Message):
    __slots__ = ("node", "instance_id", "generation", "migration_id")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    node: str
    instance_id: str
    generation: int
    migration_id: str
    def __init__(self, node: _Optional[str] = ..., instance_id: _Optional[str] = ..., generation: _Optional[int] = ..., migration_id: _Optional[str] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("subject", "guest", "source_node")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GUEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    guest: bytes
    source_node: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., guest: _Optional[bytes] = ..., source_node: _Optional[str] = ...) -> None: ...

class PrepareResponse(_message.Message):
    __slots__ = ("address", "ticket", "landing")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    LANDING_FIELD_NUMBER: _ClassVar[int]
    address: str
    ticket: str
    landing: str
    def __init__(self, address: _Optional[str] = ..., ticket: _Optional[str] = ..., landing: _Optional[str] = ...) -> None: ...

class PreCopyRequest(_message.Message):
    __slots__ = ("subject", "destination_node", "address", "ticket", "downtime_budget_ms", "bandwidth_mbps", "max_rounds", "max_factor", "auto_converge", "destination_generation", "landing", "destination_service")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    DOWNTIME_BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    MAX_FACTOR_FIELD_NUMBER: _ClassVar[int]
    AUTO_CONVERGE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LANDING_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_SERVICE_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    destination_node: str
    address: str
    ticket: str
    downtime_budget_ms: float
    bandwidth_mbps: float
    max_rounds: int
    max_factor: float
    auto_converge: bool
    destination_generation: int
    landing: str
    destination_service: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., destination_node: _Optional[str] = ..., address: _Optional[str] = ..., ticket: _Optional[str] = ..., downtime_budget_ms: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ..., max_rounds: _Optional[int] = ..., max_factor: _Optional[float] = ..., auto_converge: _Optional[bool] = ..., destination_generation: _Optional[int] = ..., landing: _Optional[str] = ..., destination_service: _Optional[str] = ...) -> None: ...

class PreCopyResponse(_message.Message):
    __slots__ = ("number", "pages_sent", "bytes_sent", "pages_dirtied", "duration_ms", "bandwidth_mbps", "throttle_percent", "memory_bytes", "bytes_remaining", "expected_downtime_ms", "stop_reason")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PAGES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    PAGES_DIRTIED_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_REMAINING_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DOWNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    number: int
    pages_sent: int
    bytes_sent: int
    pages_dirtied: int
    duration_ms: float
    bandwidth_mbps: float
    throttle_percent: int
    memory_bytes: int
    bytes_remaining: int
    expected_downtime_ms: float
    stop_reason: str
    def __init__(self, number: _Optional[int] = ..., pages_sent: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., pages_dirtied: _Optional[int] = ..., duration_ms: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ..., throttle_percent: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., bytes_remaining: _Optional[int] = ..., expected_downtime_ms: _Optional[float] = ..., stop_reason: _Optional[str] = ...) -> None: ...

class StopAndCopyRequest(_message.Message):
    __slots__ = ("subject",)
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ...) -> None: ...

class StopAndCopyResponse(_message.Message):
    __slots__ = ("pages_sent", "bytes_sent", "paused_ms", "digest")
    PAGES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_MS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    pages_sent: int
    bytes_sent: int
    paused_ms: float
    digest: str
    def __init__(self, pages_sent: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., paused_ms: _Optional[float] = ..., digest: _Optional[str] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("subject",)
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("whole", "digest")
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    whole: bool
    digest: str
    def __init__(self, whole: _Optional[bool] = ..., digest: _Optional[str] = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("subject",)
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ...) -> None: ...

class ActivateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiscardRequest(_message.Message):
    __slots__ = ("subject",)
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ...) -> None: ...

class DiscardResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AbandonRequest(_message.Message):
    __slots__ = ("subject",)
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ...) -> None: ...

class AbandonResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("subject",)
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SteerRequest(_message.Message):
    __slots__ = ("subject", "finish", "bandwidth_mbps")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    finish: bool
    bandwidth_mbps: float
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., finish: _Optional[bool] = ..., bandwidth_mbps: _Optional[float] = ...) -> None: ...

class SteerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetConsoleOutputRequest(_message.Message):
    __slots__ = ("node", "instance_id")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    node: str
    instance_id: str
    def __init__(self, node: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class GetConsoleOutputResponse(_message.Message):
    __slots__ = ("output", "at_ms")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    at_ms: int
    def __init__(self, output: _Optional[bytes] = ..., at_ms: _Optional[int] = ...) -> None: ...

class GetConsoleScreenshotRequest(_message.Message):
    __slots__ = ("node", "instance_id")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    node: str
    instance_id: str
    def __init__(self, node: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class GetConsoleScreenshotResponse(_message.Message):
    __slots__ = ("picture", "type")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    picture: bytes
    type: str
    def __init__(self, picture: _Optional[bytes] = ..., type: _Optional[str] = ...) -> None: ...

class FollowConsoleRequest(_message.Message):
    __slots__ = ("node", "instance_id")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    node: str
    instance_id: str
    def __init__(self, node: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class FollowConsoleResponse(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    def __init__(self, output: _Optional[bytes] = ...) -> None: ...

class ReceiveRequest(_message.Message):
    __slots__ = ("subject", "ticket", "round", "page_numbers", "page_contents", "cpu_state")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PAGE_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    PAGE_CONTENTS_FIELD_NUMBER: _ClassVar[int]
    CPU_STATE_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    ticket: str
    round: int
    page_numbers: bytes
    page_contents: bytes
    cpu_state: bytes
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., ticket: _Optional[str] = ..., round: _Optional[int] = ..., page_numbers: _Optional[bytes] = ..., page_contents: _Optional[bytes] = ..., cpu_state: _Optional[bytes] = ...) -> None: ...

class ReceiveResponse(_message.Message):
    __slots__ = ("pages", "digest")
    PAGES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    pages: int
    digest: str
    def __init__(self, pages: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class CaptureRootRequest(_message.Message):
    __slots__ = ("subject", "capture_id", "bucket", "key", "owner")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_ID_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    capture_id: str
    bucket: str
    key: str
    owner: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., capture_id: _Optional[str] = ..., bucket: _Optional[str] = ..., key: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class CaptureRootResponse(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "file")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    file: _common_pb2.ImageFile
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., file: _Optional[_Union[_common_pb2.ImageFile, _Mapping]] = ...) -> None: ...
