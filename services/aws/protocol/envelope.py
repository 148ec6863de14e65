"""What stands around a result or an error: the one place where the two XML protocols differ."""

from __future__ import annotations

from typing import Final

from mallee.aws.errors import AwsError
from mallee.aws.protocol.scalars import escape

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_LONGEST_MESSAGE: Final = 2000  # a complaint may quote what was sent, and that may be a megabyte


def ec2_result(operation: str, request_id: str, version: str) -> tuple[str, str]:
    """Before and after: the namespace has the version asked and ends in a slash; older parsers insist."""
    head = f'{_HEAD}<{operation}Response xmlns="http://ec2.amazonaws.com/doc/{version}/">'
    return f"{head}<requestId>{request_id}</requestId>", f"</{operation}Response>"


def query_result(operation: str, request_id: str, namespace: str, wrapper: str | None) -> tuple[str, str]:
    """A result in its wrapper, then the metadata; an operation without a result has only these."""
    head = f'{_HEAD}<{operation}Response xmlns="{namespace}">'
    tail = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    return (f"{head}<{wrapper}>", f"</{wrapper}>{tail}") if wrapper else (head, tail)


def ec2_error(error: AwsError, request_id: str) -> bytes:
    """EC2's form: no namespace, `RequestID` in capitals."""
    return (
        f"{_HEAD}<Response><Errors><Error><Code>{escape(error.code)}</Code>"
        f"<Message>{_message(error)}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
    ).encode()


def query_error(error: AwsError, request_id: str, namespace: str) -> bytes:
    """The query protocol's form, which also says whose fault it is."""
    fault = "Receiver" if error.status >= 500 else "Sender"
    return (
        f'{_HEAD}<ErrorResponse xmlns="{namespace}"><Error><Type>{fault}</Type>'
        f"<Code>{escape(error.code)}</Code><Message>{_message(error)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def _message(error: AwsError) -> str:
    return escape(error.message[:_LONGEST_MESSAGE])
