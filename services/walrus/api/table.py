"""The table of the S3 operations that are built: one entry each, with what it honours.

An operation lists the input members that it honours. What Amazon's model knows beyond them is
refused with `NotImplemented` when a caller sends it, so nothing is ever accepted and ignored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, TypeVar

from mallee.aws.actions import HasInput
from mallee.walrus.front.call import Result

Handler = Callable[[Any, Any], Awaitable[Result]]
AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Awaitable[Result]])


@dataclass(frozen=True, slots=True)
class Operation:
    """One built operation.

    Attributes:
        name: the model's, `PutObject`.
        accepts: dotted input members, lists without an index; naming a structure or a list accepts
            all below it.
        doc: the handler's docstring.
    """

    name: str
    handler: Handler
    accepts: tuple[str, ...]
    doc: str


class S3Table:
    """The operations, filled by decorators at import.

    ```python
    s3 = S3Table()

    @s3.operation("PutObject", accepts=("Bucket", "Key", "Body", "ContentType"))
    async def put_object(call: Call, req: PutObjectRequestTypeDef) -> Result: ...
    ```
    """

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations.values())

    def operation(self, name: str, *, accepts: tuple[str, ...] = ()) -> Callable[[AnyHandler], AnyHandler]:
        """Register a handler."""

        def register(handler: AnyHandler) -> AnyHandler:
            if name in self.operations:
                raise ValueError(f"{name} has two handlers")
            self.operations[name] = Operation(name, handler, accepts, getdoc(handler) or "")
            return handler

        return register

    def include(self, other: S3Table) -> None:
        """Take all of another table's operations, so that each family can have a table of its own."""
        for operation in other:
            self.operation(operation.name, accepts=operation.accepts)(operation.handler)

    def verify(self, model: HasInput) -> None:
        """Check every entry against the model.

        Raises:
            ValueError: an operation or an accepted member that the model does not know. All are named.
        """
        wrong = [fault for operation in self for fault in _faults(operation, model)]
        if wrong:
            raise ValueError("the table of operations disagrees with the model: " + "; ".join(wrong))


def _faults(operation: Operation, model: HasInput) -> Iterator[str]:
    known = model.input_paths(operation.name)
    if known is None:
        yield f"{operation.name} is not an operation"
        return
    for path in operation.accepts:
        if path not in known:
            yield f"{operation.name} accepts {path}, which is not in its input"
