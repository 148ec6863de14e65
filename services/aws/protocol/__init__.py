"""The wire formats of Amazon's query services, both ways, compiled per operation on first use.

`Protocol` is one service: parameters from forms, results and errors to XML. Sources: the "AWS EC2
query" and "AWS query" protocols of the Smithy documentation, and AWS's recorded answers for the
order of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mallee.aws.errors import AwsError
from mallee.aws.model import Model
from mallee.aws.protocol import envelope
from mallee.aws.protocol.form import Pairs, Tree, decode, tree
from mallee.aws.protocol.reader import accepted, compile_parser
from mallee.aws.protocol.writer import Fragment, Piece, Put, Write, Writer, joined

__all__ = ["Fragment", "Pairs", "Protocol", "Tree", "decode", "tree"]


class Protocol:
    """One service's wire.

    ```python
    ec2 = Protocol(model.load("ec2"))
    parse = ec2.parser("TerminateInstances", accepts=("InstanceIds",))
    parse(tree(decode(b"InstanceId.1=i-0")))  # {"InstanceIds": ["i-0"]}
    cached = ec2.fragment("DescribeInstances", "Reservations.Instances", {...})
    ec2.serialize("DescribeInstances", {"Reservations": [{"Instances": [cached]}]}, request_id)
    ```
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._writer = Writer(model)
        self._contents: dict[str, Write | None] = {}
        self._elements: dict[tuple[str, str], Callable[[Any], Fragment]] = {}

    def parser(
        self, operation: str, accepts: tuple[str, ...] | None = None
    ) -> Callable[[Tree], dict[str, Any]]:
        """A function from a form's tree to parameters, for the members that `accepts` lists (None: all).

        Compiled at each call; the caller keeps it. Errors of the returned function:
        InvalidParameterValue, MissingParameter, UnknownParameter, UnsupportedOperation.
        """
        paths = None if accepts is None else accepted(accepts)
        return compile_parser(self.model.protocol, self.model.input(operation), paths)

    def serialize(
        self, operation: str, value: Mapping[str, Any] | None, request_id: str, version: str = ""
    ) -> bytes:
        """The whole answer; EC2 names the version that was asked in its namespace.

        Raises:
            TypeError, ValueError, KeyError, AttributeError: the value does not fit the model (our bug).
        """
        if self.model.protocol == "ec2":
            head, tail = envelope.ec2_result(operation, request_id, version or self.model.version)
        else:
            wrapper = self.model.result_wrapper(operation)
            head, tail = envelope.query_result(operation, request_id, self.model.namespace, wrapper)
        pieces: list[Piece] = [head]
        self._put_content(operation, value or {}, pieces.append)
        pieces.append(tail)
        return joined(pieces)

    def _put_content(self, operation: str, value: Mapping[str, Any], put: Put) -> None:
        if operation not in self._contents:
            shape = self.model.output(operation)
            self._contents[operation] = self._writer.content(shape) if shape else None
        write = self._contents[operation]
        if write is not None:
            write(value, put)
        elif value:
            raise TypeError(f"{operation} has no result")
        elif self.model.protocol == "ec2":
            put("<return>true</return>")

    def fragment(self, operation: str, path: str, value: Mapping[str, Any]) -> Fragment:
        """One element of a result, written once: `fragment("DescribeInstances", "Reservations.Instances", i)`.

        A path that ends at a list means one element of it. The text is ASCII, free of versions and
        namespaces, and good wherever an element of that shape and name stands.

        Raises:
            KeyError: no such path.
        """
        write = self._elements.get((operation, path))
        if write is None:
            shape = self.model.output(operation)
            if shape is None:
                raise KeyError(operation)
            write = self._elements[operation, path] = self._writer.element(shape, path)
        return write(value)

    def error(self, error: AwsError, request_id: str) -> bytes:
        """The body of an error."""
        if self.model.protocol == "ec2":
            return envelope.ec2_error(error, request_id)
        return envelope.query_error(error, request_id, self.model.namespace)
