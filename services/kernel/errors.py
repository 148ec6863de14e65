"""What can go wrong between services, in a handful of kinds.

A `Fault` crosses RPC unchanged: its kind becomes a gRPC status (`kernel.rpc`), its three parts
and its code travel beside it. What a user of EC2 is told is decided by the CLC alone.
"""

from __future__ import annotations

from enum import StrEnum

STORAGE_FULL = "storage-full"  # the code of a fault that ends when somebody makes room


class Kind(StrEnum):
    """The kinds a caller can act upon differently."""

    INVALID = "invalid"  # the request can never succeed
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"  # not in this state; may succeed later
    STALE = "stale"  # an order of an older generation
    NO_CAPACITY = "no-capacity"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"  # passing: try again
    INTERNAL = "internal"  # our bug


class Fault(Exception):  # noqa: N818 - a fault is not always an error of ours
    """A failure with a reason: what happened, why, and what to do about it.

    Args:
        kind: what a caller can do with it.
        what: one sentence, what did not happen.
        why: the cause, if it is known.
        fix: what the reader can do, as an imperative.
        code: a stable machine word, e.g. `cpu-model-mismatch`.
    """

    def __init__(self, kind: Kind, what: str, *, why: str = "", fix: str = "", code: str = "") -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.why = why
        self.fix = fix
        self.code = code or kind.value

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.fix) if part)
