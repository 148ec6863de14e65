"""The table of what a service has built: one entry per action, with what it honours.

An action lists the input members that it honours. What Amazon's model knows beyond them is
refused when a caller sends it, so nothing is ever accepted and ignored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, Protocol, TypeVar

Result = Mapping[str, Any] | None
Handler = Callable[[Any, Any], Awaitable[Result]]
AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Awaitable[Result]])

_READING = ("Describe", "Get", "List", "Search", "Simulate")


class HasInput(Protocol):
    """As much of a service model as a table is checked against."""

    def input_paths(self, operation: str) -> frozenset[str] | None:
        """Every dotted member of the operation's input; None for an unknown operation."""


@dataclass(frozen=True, slots=True)
class Action:
    """One built action.

    Attributes:
        accepts: dotted input members, lists without an index (`BlockDeviceMappings.Ebs.VolumeSize`);
            naming a structure or a list accepts all below it.
        filters: the documented filter names of the action (`tag:` stands for every `tag:<key>`).
        mutating: changes something, so it is throttled and authorised as a change.
        secret_result: the answer holds a secret (a private key) and must not be kept or logged.
        doc: the handler's docstring.
    """

    name: str
    handler: Handler
    accepts: tuple[str, ...]
    filters: Mapping[str, Any] | None
    mutating: bool
    secret_result: bool
    doc: str


class ActionTable:
    """The actions of one service, filled by decorators at import.

    ```python
    ec2 = ActionTable("ec2")

    @ec2.action("TerminateInstances", accepts=("InstanceIds", "DryRun"))
    async def terminate_instances(call: Call, req: TerminateInstancesRequestTypeDef) -> Result: ...
    ```
    """

    def __init__(self, service_name: str) -> None:
        self.service_name = service_name
        self.handlers: dict[str, Action] = {}

    def __iter__(self) -> Iterator[Action]:
        return iter(self.handlers.values())

    def action(
        self,
        name: str,
        *,
        accepts: tuple[str, ...] = (),
        filters: Mapping[str, Any] | None = None,
        mutating: bool | None = None,
        secret_result: bool = False,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Register a handler; `mutating` follows from the verb (Describe, Get, List) unless said."""
        changes = not name.startswith(_READING) if mutating is None else mutating

        def register(handler: AnyHandler) -> AnyHandler:
            if name in self.handlers:
                raise ValueError(f"{self.service_name}.{name} has two handlers")
            doc = getdoc(handler) or ""
            self.handlers[name] = Action(name, handler, accepts, filters, changes, secret_result, doc)
            return handler

        return register

    def verify(self, model: HasInput) -> None:
        """Check every entry against the service's model.

        Raises:
            ValueError: an action or an accepted member that the model does not know, or filters on
                an action that does not accept them. All are named.
        """
        wrong = [f"{self.service_name}.{fault}" for action in self for fault in _faults(action, model)]
        if wrong:
            raise ValueError("the action table disagrees with the model: " + "; ".join(wrong))


def _faults(action: Action, model: HasInput) -> Iterator[str]:
    known = model.input_paths(action.name)
    if known is None:
        yield f"{action.name} is not an operation"
        return
    for path in action.accepts:
        if path not in known:
            yield f"{action.name} accepts {path}, which is not in its input"
    if action.filters is not None and not {"Filters", "Filter"} & set(action.accepts):
        yield f"{action.name} documents filters but does not accept Filters"
