"""What every server does around a handler: who calls, may they, and what becomes of a failure."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias, cast

import grpc
import structlog
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.access import COMMON, AccessTable
from mallee.kernel.rpc.faults import STATUS, details, trailer
from mallee.kernel.rpc.identity import NOBODY, Identity
from mallee.kernel.rpc.seam import Registration

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "aio.ServicerContext[Any, Any]"
_Behaviour: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
_log = structlog.get_logger()


def peer(context: Any) -> Identity:
    """Who is calling, as its certificate proves; `NOBODY` where none was asked for.

    Raises:
        Fault: FORBIDDEN, when the certificate names no service.
    """
    proven = context.auth_context()
    for uri in proven.get("peer_spiffe_id", ()):
        return Identity.parse(uri.decode())
    if "x509_pem_cert" in proven:
        raise Fault(
            Kind.FORBIDDEN,
            "The caller's certificate names no service.",
            fix="Enrol the service with this cloud's authority.",
            code="no-identity",
        )
    return NOBODY


class Guard:
    """Stands in for the server while servicers register, and puts a guard around each handler."""

    def __init__(self, me: Identity, access: AccessTable) -> None:
        self.services: dict[str, dict[str, Handler]] = {}
        self._me = me
        self._access = access | COMMON
        self._health = HealthServicer()

    def register(self, add: Iterable[Registration]) -> None:
        """Take in the servicers, then what every server answers: health and reflection."""
        server = cast("aio.Server", self)
        for registration in add:
            registration(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflected = ReflectionServicer((*self.services, REFLECTION))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, server)

    async def set_health(self, service: str, *, serving: bool) -> None:
        answer = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        await self._health.set(service, answer)

    def find(self, method: str) -> Handler | None:
        _, service, name = method.split("/")
        return self.services.get(service, {}).get(name)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.services[service] = {
            name: self._guarded(f"/{service}/{name}", handler) for name, handler in handlers.items()
        }

    def add_generic_rpc_handlers(self, _: Iterable[object]) -> None:
        """Generated code registers everything twice; by name is enough."""

    def _guarded(self, method: str, handler: Handler) -> Handler:
        # Exactly one of the four behaviours of a handler is set; its place says its arity.
        name = (
            f"{'stream' if handler.request_streaming else 'unary'}"
            f"_{'stream' if handler.response_streaming else 'unary'}"
        )
        behaviour = getattr(handler, name)
        guard = self._answering_many if handler.response_streaming else self._answering_once
        make = getattr(grpc, f"{name}_rpc_method_handler")
        made: Handler = make(
            guard(method, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return made

    def _answering_once(self, method: str, behaviour: _Behaviour) -> _Behaviour:
        async def handle(asked: Any, context: Context) -> Any:
            try:
                self._admit(method, context)
                return await behaviour(asked, context)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller gets a fault
                await _refuse(context, method, error)

        return handle

    def _answering_many(self, method: str, behaviour: Callable[[Any, Context], Any]) -> _Behaviour:
        generates = inspect.isasyncgenfunction(behaviour)

        async def handle(asked: Any, context: Context) -> None:
            try:
                self._admit(method, context)
                if not generates:
                    await behaviour(asked, context)
                    return
                # Written here rather than yielded on: a caller who hangs up must end the generator
                # now, in this task, not when the garbage collector finds it.
                async with aclosing(behaviour(asked, context)) as answers:
                    async for answer in answers:
                        await context.write(answer)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller gets a fault
                await _refuse(context, method, error)

        return handle

    def _admit(self, method: str, context: Context) -> None:
        caller = peer(context)
        if caller is not NOBODY and caller.cloud != self._me.cloud:
            raise Fault(Kind.FORBIDDEN, f"{caller.uri} belongs to another cloud.", code="foreign-cloud")
        if not self._access.allows(caller, method):
            raise Fault(
                Kind.FORBIDDEN,
                f"{caller} may not call {method}.",
                why=f"The access table of {self._me} does not list role {caller.role} for it.",
                code="role",
            )


async def _refuse(context: Context, method: str, error: BaseException) -> NoReturn:
    """End the call with the fault; an error that is none is our bug, and stays in our log."""
    if isinstance(error, aio.AbortError) or _is_cancelled(error):
        raise error
    if isinstance(error, Fault):
        fault = error
    else:
        _log.error("handler failed", method=method, exc_info=error)
        fault = Fault(Kind.INTERNAL, f"{method} failed unexpectedly.", fix="See the service's log.")
    await context.abort(STATUS[fault.kind], details(fault), trailer(fault))


def _is_cancelled(error: BaseException) -> bool:
    """Whether the caller has hung up.

    What a handler awaited may have been cancelled and not the handler: a caller that is told nothing waits for ever.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
