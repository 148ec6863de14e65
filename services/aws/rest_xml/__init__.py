"""The rest-xml protocol of Amazon's services, both ways, compiled from the model at start.

`RestXml` is one service: which operation a request means, its parameters, and answers. It knows
nothing of what the operations do. Source: the "AWS restXml" protocol of the Smithy documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mallee.aws.model import Model
from mallee.aws.protocol.reader import accepted
from mallee.aws.rest_xml.errors import RestError, error_xml
from mallee.aws.rest_xml.reader import Reader, Sent, compile_reader
from mallee.aws.rest_xml.router import BUCKET, KEY, SERVICE, Router
from mallee.aws.rest_xml.writer import Answer, Answers, header_text

__all__ = [
    "BUCKET",
    "KEY",
    "SERVICE",
    "Answer",
    "Reader",
    "RestError",
    "RestXml",
    "Router",
    "Sent",
    "error_xml",
    "header_text",
]

# Whoever reads the body has seen to these before an operation gets it.
_BODY_MEMBERS: Final = ("ContentLength", "ContentMD5", "ChecksumAlgorithm")


class RestXml:
    """One service's wire.

    ```python
    s3 = RestXml(model.load("s3"))
    s3.router.find("GET", BUCKET, {"list-type": "2"}, ())  # "ListObjectsV2"
    s3.reader("ListObjectsV2", ("Bucket", "Prefix")).read(Sent({"Bucket": "b"}, {"prefix": "p"}, {}))
    s3.write("ListObjectsV2", {"Name": "b", "Contents": [{"Key": "k"}]})
    ```
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.router = Router(model)
        self._answers = Answers(model)

    def reader(self, operation: str, accepts: tuple[str, ...] | None = None) -> Reader:
        """The reader of an operation for the members that `accepts` lists (None: all); the caller keeps it."""
        paths = None if accepts is None else accepted(accepts)
        return compile_reader(self.model.input(operation), paths, _BODY_MEMBERS)

    def write(self, operation: str, result: Mapping[str, Any] | None) -> Answer:
        """The answer with a result.

        Raises:
            TypeError, ValueError, KeyError, AttributeError: it does not fit the model (our bug).
            RestError: InvalidArgument, a text that cannot stand in a header.
        """
        return self._answers.write(operation, result)
