from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetSigningKeyRequest(_message.Message):
    __slots__ = ("access_key_id", "date", "region")
    ACCESS_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    access_key_id: str
    date: str
    region: str
    def __init__(self, access_key_id: _Optional[str] = ..., date: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...

class GetSigningKeyResponse(_message.Message):
    __slots__ = ("signing_key", "principal", "active", "session_token_sha256", "changes")
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    signing_key: bytes
    principal: Principal
    active: bool
    session_token_sha256: bytes
    changes: int
    def __init__(self, signing_key: _Optional[bytes] = ..., principal: _Optional[_Union[Principal, _Mapping]] = ..., active: _Optional[bool] = ..., session_token_sha256: _Optional[bytes] = ..., changes: _Optional[int] = ...) -> None: ...

class Principal(_message.Message):
    __slots__ = ("account_id", "arn", "user_id", "root")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ARN_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    arn: str
    user_id: str
    root: bool
    def __init__(self, account_id: _Optional[str] = ..., arn: _Optional[str] = ..., user_id: _Optional[str] = ..., root: _Optional[bool] = ...) -> None: ...

class ListAccountsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAccountsResponse(_message.Message):
    __slots__ = ("accounts", "changes")
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[Account]
    changes: int
    def __init__(self, accounts: _Optional[_Iterable[_Union[Account, _Mapping]]] = ..., changes: _Optional[int] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class WatchKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchKeysResponse(_message.Message):
    __slots__ = ("changes", "door_token")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    DOOR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    changes: int
    door_token: str
    def __init__(self, changes: _Optional[int] = ..., door_token: _Optional[str] = ...) -> None: ...
