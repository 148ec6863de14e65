"""One request on its way through the front: what has been found out about it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mallee.aws.exchange import Receive, Scope, Send
from mallee.aws.rest_xml import SERVICE, Answer, Reader
from mallee.aws.sigv4 import Arrived
from mallee.aws.sigv4_s3 import S3Signed
from mallee.walrus.api.table import Operation
from mallee.walrus.front.address import Address
from mallee.walrus.front.call import Call
from mallee.walrus.front.forms import Form
from mallee.walrus.front.incoming import Incoming

NOWHERE: Final = Address("", "", SERVICE)


@dataclass(slots=True)
class Exchange:
    """A request and its answer. Each stage fills in its part; what follows may rely on it.

    Attributes:
        started: by the monotonic clock.
        now: by the calendar.
        headers: by lower-case name, with what a presigned query or a form carries in their place.
        form: of an upload by form.
        name: the model's name of what is asked for, built or not.
        answer: what goes back; the errors' too.
        code: of the error; empty if there is none.
        sent: bytes of the answer's body.
    """

    request_id: str
    scope: Scope
    receive: Receive
    send: Send
    arrived: Arrived
    started: float
    now: datetime
    address: Address = NOWHERE
    query: Mapping[str, str] = field(default_factory=dict)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    operation: Operation | None = None
    reader: Reader | None = None
    signed: S3Signed | None = None
    incoming: Incoming | None = None
    form: Form | None = None
    call: Call | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    answer: Answer = field(default_factory=lambda: Answer(200, []))
    code: str = ""
    sent: int = 0

    @property
    def source_ip(self) -> str:
        return (self.scope.get("client") or ("",))[0] or ""
