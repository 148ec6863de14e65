from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("secret", "node", "certificate_request")
    SECRET_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    secret: str
    node: str
    certificate_request: bytes
    def __init__(self, secret: _Optional[str] = ..., node: _Optional[str] = ..., certificate_request: _Optional[bytes] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("certificate", "authority", "cloud", "zone", "cluster_address", "renewal_address", "objects_address")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    authority: bytes
    cloud: str
    zone: str
    cluster_address: str
    renewal_address: str
    objects_address: str
    def __init__(self, certificate: _Optional[bytes] = ..., authority: _Optional[bytes] = ..., cloud: _Optional[str] = ..., zone: _Optional[str] = ..., cluster_address: _Optional[str] = ..., renewal_address: _Optional[str] = ..., objects_address: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("certificate_request",)
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    def __init__(self, certificate_request: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...
