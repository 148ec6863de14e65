"""Where a service answers HTTP, and HTTPS where the operator gave a certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import Protocol
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import uvicorn

from mallee.aws.exchange import App
from mallee.kernel.errors import Fault, Kind


@dataclass(frozen=True, slots=True)
class Https:
    """A second port, for TLS.

    Attributes:
        certificate: file in PEM: the server's certificate, then those that lead to a known authority.
        key: file in PEM, without a passphrase.
        host: empty for that of the plain port.
        port: 0 for any.
    """

    certificate: str
    key: str
    host: str = ""
    port: int = 8443

    def check(self) -> None:
        """Whether both files are there and belong together. Raises Fault INVALID."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate, self.key, _no_passphrase
            )
        except OSError as error:  # of SSL too
            raise Fault(
                Kind.INVALID,
                f"The certificate {self.certificate} cannot be used with the key {self.key}.",
                why=f"{error.strerror or error}.",
                fix="Give PEM files that belong together, the key without a passphrase and readable for this user.",
                code="certificate",
            ) from error


def _no_passphrase() -> str:
    raise OSError("The key is kept under a passphrase")


class Port(NamedTuple):
    """One that is bound; without `https` it is plain."""

    listening: socket.socket
    https: Https | None

    @property
    def number(self) -> int:
        return int(self.listening.getsockname()[1])


def bind(what: str, host: str, port: int, https: Https | None, starting: AsyncExitStack) -> list[Port]:
    """The plain port, and that of HTTPS if there is one, both until `starting` is closed.

    Raises:
        Fault: CONFLICT `address-in-use`, INVALID `certificate`.
    """
    ports = [Port(_listen(host, port, what), None)]
    starting.callback(ports[0].listening.close)
    if https is not None:
        https.check()
        ports.append(Port(_listen(https.host or host, https.port, f"{what} for HTTPS"), https))
        starting.callback(ports[1].listening.close)
    return ports


def _listen(host: str, port: int, what: str) -> socket.socket:
    """Bound here and not by uvicorn, which would end the process when the port is taken."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise Fault(
            Kind.CONFLICT,
            f"{what} cannot listen at {host}:{port}.",
            why=f"{error.strerror}.",
            fix="Stop what listens there, or choose another port (0 picks a free one).",
            code="address-in-use",
        ) from error
    return listening


def answer(app: App, ports: Iterable[Port], protocol: type[Protocol], starting: AsyncExitStack) -> None:
    """Answer at the ports until `starting` is closed; what is under way then is answered yet."""
    for port in ports:
        _answer(app, port, protocol, starting)


def _answer(app: App, port: Port, protocol: type[Protocol], starting: AsyncExitStack) -> None:
    secure: dict[str, Any] = {}
    if port.https is not None:
        secure = {"ssl_certfile": port.https.certificate, "ssl_keyfile": port.https.key}
    door = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            http=protocol,
            ws="none",
            timeout_keep_alive=75,  # seconds; SDKs keep theirs for 60 and should find them open
            timeout_graceful_shutdown=5,
            **secure,
        )
    )
    # `_serve` and not `serve`: signals belong to whoever runs the whole process.
    answering = asyncio.create_task(door._serve(sockets=[port.listening]))  # noqa: SLF001

    async def close() -> None:
        door.should_exit = True
        await answering

    starting.push_async_callback(close)
