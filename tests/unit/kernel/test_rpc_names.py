"""Names of services, and the table of who may call what."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import ANYONE, NOBODY, AccessTable, Identity, peer
from mallee.kernel.rpc.faults import STATUS, details, fault_of, trailer
from mallee.kernel.rpc.keys import cloud_of

NC = Identity("mallee", "nc", "az1-n1.example")


def test_an_identity_and_its_uri() -> None:
    assert NC.uri == "spiffe://mallee/nc/az1-n1.example"
    assert Identity.parse(NC.uri) == NC
    assert str(NC) == "nc az1-n1.example"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://mallee/nc",
        "spiffe://mallee/nc/a/b",
        "spiffe://mallee/nc/",
        "http://mallee/nc/a",
        "spiffe://Mallee/nc/a",
        "spiffe://mallee/nc/a b",
        "spiffe://mallee/nc/a\n",
        "spiffe://mallee/nc/../clc",
        "spiffe://mallee/nc/-a",
        "spiffe://mallee/nc/a..b",
        f"spiffe://mallee/nc/{'a' * 64}",
        "spiffe://mallee.x/nc/a",
    ],
)
def test_what_is_not_an_identity(uri: str) -> None:
    with pytest.raises(Fault) as caught:
        Identity.parse(uri)

    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad-identity")


def test_the_table() -> None:
    table = AccessTable({"/a/One": {"cc"}, "/a/All": {"*"}, "/a/Open": {ANYONE}}) | AccessTable(
        {"/a/One": ["clc"]}
    )
    callers = {"cc": Identity("m", "cc", "x"), "clc": Identity("m", "clc", "x"), "nc": NC, "nobody": NOBODY}

    allowed = {
        method: {name for name, caller in callers.items() if table.allows(caller, method)}
        for method in ("/a/One", "/a/All", "/a/Open", "/a/None")
    }

    assert allowed == {
        "/a/One": {"cc", "clc"},
        "/a/All": {"cc", "clc", "nc"},
        "/a/Open": set(callers),
        "/a/None": set(),
    }


def test_each_kind_has_a_status_of_its_own() -> None:
    assert set(STATUS) == set(Kind)
    assert len(set(STATUS.values())) == len(Kind)


def _error(status: StatusCode, trailing: Metadata | None = None, *, details: str = "said so") -> AioRpcError:
    return AioRpcError(status, Metadata(), trailing or Metadata(), details=details)


@pytest.mark.parametrize("details", ["Internal error from Core", "Received RST_STREAM with error code 2"])
def test_a_torn_stream_is_a_passing_fault(details: str) -> None:
    fault = fault_of(_error(StatusCode.INTERNAL, details=details), "/a/B", "host:1")

    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "cut-off")
    assert fault_of(_error(StatusCode.INTERNAL), "/a/B", "host:1").kind is Kind.INTERNAL


def test_a_server_that_is_overrun_is_a_passing_fault_and_a_message_over_the_limit_is_none() -> None:
    """The first was told to users as a wrong value of theirs."""
    overrun = _error(StatusCode.RESOURCE_EXHAUSTED, details="Too many pending requests for this server")
    large = _error(StatusCode.RESOURCE_EXHAUSTED, details="Sent message larger than max (17 vs. 16)")

    assert fault_of(overrun, "/a/B", "host:1").kind is Kind.UNAVAILABLE
    assert fault_of(large, "/a/B", "host:1").code == "message-too-large"


@pytest.mark.parametrize("status", [status for status in StatusCode if status is not StatusCode.OK])
def test_every_plain_status_means_something(status: StatusCode) -> None:
    fault = fault_of(_error(status), "/a/B", "host:1")

    assert fault.why == "said so"
    assert "/a/B at host:1" in fault.what


@pytest.mark.parametrize("sent", [b"", b"\xc1", b"\x90", b"\x95\xa1x\xa0\xa0\xa0\xa0", b"\xff" * 100])
def test_a_trailer_that_is_not_ours_is_not_believed(sent: bytes) -> None:
    fault = fault_of(_error(StatusCode.NOT_FOUND, Metadata(("mallee-fault-bin", sent))), "/a/B", "host:1")

    assert (fault.kind, fault.why) == (Kind.NOT_FOUND, "said so")


@pytest.mark.parametrize(
    "text", ["☂" * 9999, "🌂" * 9999, "%" * 9999, "\udc80" * 9999], ids=["3", "4", "%", "half"]
)
def test_a_trailer_fits_grpcs_metadata(text: str) -> None:
    long = Fault(Kind.INVALID, text, why=text, fix=text, code=text)

    ((_, sent),) = trailer(long)

    assert len(b64encode(sent)) + len(quote(details(long))) < 8 * 1024 - 200


@pytest.mark.parametrize(
    "pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_what_is_no_authority(pem: bytes) -> None:
    with pytest.raises(Fault):
        cloud_of(pem)


class _Context:
    def __init__(self, proven: dict[str, list[bytes]]) -> None:
        self._proven = proven

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._proven


def test_the_peer_is_who_the_certificate_names() -> None:
    assert peer(_Context({"peer_spiffe_id": [NC.uri.encode()], "x509_pem_cert": [b"..."]})) == NC
    assert peer(_Context({})) is NOBODY


def test_a_certificate_without_a_service_is_not_taken_for_no_certificate() -> None:
    with pytest.raises(Fault) as caught:
        peer(_Context({"x509_pem_cert": [b"..."]}))

    assert (caught.value.kind, caught.value.code) == (Kind.FORBIDDEN, "no-identity")
