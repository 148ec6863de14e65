"""One service behind the front door: its wire, its table of actions, and how a handler is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mallee.aws.actions import Action, ActionTable
from mallee.aws.context import Request
from mallee.aws.errors import (
    InvalidAction,
    InvalidParameterValue,
    MissingParameter,
    UnknownParameter,
    UnsupportedOperation,
    ValidationError,
)
from mallee.aws.protocol import Protocol as Wire
from mallee.aws.protocol import Tree

CallFactory = Callable[[Request], Any]


class Authoriser(Protocol):
    """Who may do what."""

    async def authorise(self, request: Request, action: Action, parameters: Mapping[str, Any]) -> None:
        """Return if the request's principal may do this.

        Raises:
            UnauthorizedOperation, AccessDenied: it may not.
        """


class Service:
    """What a request to one service needs.

    Args:
        table: the actions that are built.
        wire: the service's protocol.
        make_call: makes the first argument of a handler from a request.
    """

    def __init__(self, table: ActionTable, wire: Wire, make_call: CallFactory) -> None:
        self.name = table.service_name
        self.wire = wire
        self.make_call = make_call
        self._table = table
        self._parsers: dict[str, Callable[[Tree], dict[str, Any]]] = {}

    def action(self, operation: str) -> Action:
        """The action of a name.

        Raises:
            InvalidAction: nobody knows it.
            UnsupportedOperation: AWS knows it, and it is not built here.
        """
        action = self._table.handlers.get(operation)
        if action is not None:
            return action
        if operation in self.wire.model.operations:
            raise UnsupportedOperation(f"The operation {operation} is not supported by this cloud.")
        raise InvalidAction(operation[:64])

    def read(self, action: Action, form: Tree) -> dict[str, Any]:
        """The parameters of an action from a form; the parser is compiled at the action's first use.

        Raises:
            InvalidParameterValue, MissingParameter, UnknownParameter: of EC2 alone.
            ValidationError: the same of the other services.
            UnsupportedOperation: a parameter that is not honoured here.
        """
        parse = self._parsers.get(action.name)
        if parse is None:
            parse = self._parsers[action.name] = self.wire.parser(action.name, action.accepts)
        if self.wire.model.protocol == "ec2":
            return parse(form)
        try:
            return parse(form)
        except MissingParameter as error:
            member = error.name[:1].lower() + error.name[1:]
            raise ValidationError.at(member, None, "not be null") from None
        except (InvalidParameterValue, UnknownParameter) as error:
            raise ValidationError(error.message) from None
