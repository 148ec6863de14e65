"""An error of a REST service: beside code, words and status it has headers and elements of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mallee.aws.errors import AwsError
from mallee.aws.protocol.scalars import escape

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_LONGEST: Final = 2000  # a complaint may quote what was sent


class RestError(AwsError):
    """What the caller is told.

    Attributes:
        headers: sent with the answer.
        details: further elements of the XML, by name.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 400,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message, status)
        self.headers: Mapping[str, str] = headers or {}
        self.details: Mapping[str, str] = details or {}


def error_xml(error: AwsError, *, resource: str, request_id: str, host_id: str) -> bytes:
    """The body of an error, in S3's form: no namespace, one level.

    Args:
        error: with its details.
        request_id: of the answer.
        resource: the path that was asked for, as it is on the request line.
        host_id: which of the store's processes answered.
    """
    details = error.details if isinstance(error, RestError) else {}
    inside = "".join(f"<{name}>{escape(str(text)[:_LONGEST])}</{name}>" for name, text in details.items())
    return (
        f"{_HEAD}<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message[:_LONGEST])}</Message>"
        f"{inside}<Resource>{escape(resource[:_LONGEST])}</Resource><RequestId>{request_id}</RequestId>"
        f"<HostId>{host_id}</HostId></Error>"
    ).encode()
