"""A `Fault` across the wire: its kind is the gRPC status, its parts travel as binary trailing metadata.

Other languages' clients see a standard status and one sentence; ours raise the same `Fault` again.
"""

from __future__ import annotations

import msgspec
from grpc import StatusCode
from grpc.aio import AioRpcError

from mallee.kernel.errors import Fault, Kind

STATUS = {
    Kind.INVALID: StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: StatusCode.NOT_FOUND,
    Kind.CONFLICT: StatusCode.FAILED_PRECONDITION,
    Kind.STALE: StatusCode.ABORTED,
    Kind.NO_CAPACITY: StatusCode.RESOURCE_EXHAUSTED,
    Kind.FORBIDDEN: StatusCode.PERMISSION_DENIED,
    Kind.UNAVAILABLE: StatusCode.UNAVAILABLE,
    Kind.INTERNAL: StatusCode.INTERNAL,
}

# Statuses that came without a fault of ours: gRPC itself speaks, or a server that is not ours.
# RESOURCE_EXHAUSTED is then a message over the limit, which can never succeed, or a server that is overrun.
_PLAIN = {
    StatusCode.INVALID_ARGUMENT: (Kind.INVALID, ""),
    StatusCode.OUT_OF_RANGE: (Kind.INVALID, ""),
    StatusCode.RESOURCE_EXHAUSTED: (Kind.INVALID, "message-too-large"),
    StatusCode.UNIMPLEMENTED: (Kind.INVALID, "unknown-method"),
    StatusCode.NOT_FOUND: (Kind.NOT_FOUND, ""),
    StatusCode.ALREADY_EXISTS: (Kind.CONFLICT, ""),
    StatusCode.FAILED_PRECONDITION: (Kind.CONFLICT, ""),
    StatusCode.ABORTED: (Kind.STALE, ""),
    StatusCode.PERMISSION_DENIED: (Kind.FORBIDDEN, ""),
    StatusCode.UNAUTHENTICATED: (Kind.FORBIDDEN, ""),
    StatusCode.UNAVAILABLE: (Kind.UNAVAILABLE, "unreachable"),
    StatusCode.DEADLINE_EXCEEDED: (Kind.UNAVAILABLE, "deadline"),
    StatusCode.CANCELLED: (Kind.UNAVAILABLE, "cut-off"),
}

_KEY = "mallee-fault-bin"
_PART_LIMIT = 1_000  # bytes; with the details all stays under gRPC's 8 KiB of metadata
_DETAILS_LIMIT = 200  # characters, each up to 12 bytes when escaped


class _Parts(msgspec.Struct, array_like=True):
    kind: Kind
    what: str
    why: str
    fix: str
    code: str


def trailer(fault: Fault) -> tuple[tuple[str, bytes], ...]:
    """The fault as trailing metadata."""
    texts = (
        part.encode(errors="replace")[:_PART_LIMIT].decode(errors="ignore")
        for part in (fault.what, fault.why, fault.fix, fault.code)
    )
    return ((_KEY, msgspec.msgpack.encode(_Parts(fault.kind, *texts))),)


def details(fault: Fault) -> str:
    """The one sentence beside the status, for clients that know no faults."""
    return fault.what[:_DETAILS_LIMIT].encode(errors="replace").decode()


def carried(error: AioRpcError) -> Fault | None:
    """The fault that the server sent, if it did."""
    sent = (error.trailing_metadata() or {}).get(_KEY)
    if not isinstance(sent, bytes):
        return None
    try:
        parts = msgspec.msgpack.decode(sent, type=_Parts)
    except msgspec.DecodeError:
        return None  # not written by our server: the plain status speaks
    return Fault(parts.kind, parts.what, why=parts.why, fix=parts.fix, code=parts.code)


def fault_of(error: AioRpcError, method: str, address: str) -> Fault:
    """What a failed call means to the caller."""
    sent = carried(error)
    if sent is not None:
        return sent
    kind, code = _PLAIN.get(error.code(), (Kind.INTERNAL, ""))
    if _broke(error):
        kind, code = _PLAIN[StatusCode.CANCELLED]
    elif _overrun(error):
        kind, code = Kind.UNAVAILABLE, "overrun"
    return Fault(
        kind,
        f"{method} at {address} failed: {error.code().name.lower().replace('_', ' ')}.",
        why=error.details() or "",
        fix=_FIX.get(code, ""),
        code=code,
    )


def _broke(error: AioRpcError) -> bool:
    """Whether gRPC says `internal` of a stream that a server which went away has torn.

    A bug of ours in a handler comes with its fault. What comes without one is HTTP/2's reset, or what gRPC's
    own core says when it could not write to a stream that is gone.
    """
    words = error.details() or ""
    return error.code() is StatusCode.INTERNAL and any(sign in words for sign in _TORN)


def _overrun(error: AioRpcError) -> bool:
    """Whether gRPC refuses for now: too many requests wait, memory is short, or the peer asks to be left alone."""
    return error.code() is StatusCode.RESOURCE_EXHAUSTED and "larger than" not in (error.details() or "")


_TORN = ("RST_STREAM", "Internal error from Core")
_FIX = {
    "message-too-large": "Send it in smaller parts, or as a stream.",
    "unknown-method": "Bring both services to the same version.",
    "unreachable": "See that the service runs there and that both certificates come from the cloud's authority.",
    "deadline": "Try again; the service may have done the work all the same.",
    "overrun": "Try again in a moment.",
    "cut-off": "Try again; the service may have done the work all the same.",
}
