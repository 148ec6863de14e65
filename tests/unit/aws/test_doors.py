"""Where a service answers: ports that are taken, certificates that do not fit."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mallee.aws.listener.doors import Https, bind
from mallee.kernel.errors import Fault
from tests.cloud.test_s3_https import certificate


def rewritten(key: Path, encryption: serialization.KeySerializationEncryption, new: bool) -> str:
    """The key once more, under a passphrase or another one."""
    held = serialization.load_pem_private_key(key.read_bytes(), None)
    other = ec.generate_private_key(ec.SECP256R1()) if new else held
    path = key.with_name("other.pem")
    path.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return str(path)


def test_a_certificate_and_its_key(tmp_path: Path) -> None:
    cert, key = map(str, certificate(tmp_path))
    Https(cert, key).check()
    for wrong in (Https(str(tmp_path / "none"), key), Https(cert, cert), Https(key, cert)):
        with pytest.raises(Fault, match="cannot be used") as refused:
            wrong.check()
        assert refused.value.code == "certificate"


@pytest.mark.parametrize("new", [False, True], ids=["passphrase", "another"])
def test_a_key_that_does_not_open(tmp_path: Path, new: bool) -> None:
    cert, key = certificate(tmp_path)
    how = serialization.NoEncryption() if new else serialization.BestAvailableEncryption(b"x")
    with pytest.raises(Fault, match=r"passphrase|mismatch"):
        Https(str(cert), rewritten(key, how, new)).check()


async def test_both_ports_are_bound_or_none(tmp_path: Path) -> None:
    cert, key = map(str, certificate(tmp_path))
    async with AsyncExitStack() as held:
        plain, secure = bind("The endpoint", "127.0.0.1", 0, Https(cert, key, port=0), held)
        assert plain.https is None
        assert secure.https is not None
        number = plain.number
        assert number != secure.number
        async with AsyncExitStack() as failing:
            with pytest.raises(Fault, match="for HTTPS cannot listen"):
                bind("The endpoint", "127.0.0.1", 0, Https(cert, key, port=secure.number), failing)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", number))
