"""The authority, certificates and tokens, without a network."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mallee.kernel.clock import ManualClock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    Authority,
    IssuedKeys,
    StoredKeys,
    hash_secret,
    mint_join_token,
    read_join_token,
)
from mallee.kernel.rpc import ANYONE, Credentials, Identity
from mallee.kernel.rpc.keys import cloud_of

NC = Identity("mallee", "nc", "az1-n1")
SECRET = b"\x00\xff" * 16


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def authority(clock: ManualClock) -> Authority:
    return Authority.create("mallee", clock)


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_a_leaf_names_its_service_and_lives_a_day(authority: Authority, clock: ManualClock) -> None:
    leaf = parsed(authority.issue(NC).certificate)

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://mallee/nc/az1-n1"]
    assert names.get_values_for_type(x509.DNSName) == ["nc.mallee", "az1-n1.nc.mallee"]
    assert leaf.not_valid_after_utc == clock.now() + LEAF_LIFE
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_an_independent_verifier_accepts_the_chain_only_in_its_time(
    authority: Authority, clock: ManualClock
) -> None:
    leaf = parsed(authority.issue(NC).certificate)
    policy = PolicyBuilder().store(Store([parsed(authority.pem)]))

    policy.time(clock.now()).build_client_verifier().verify(leaf, [])

    for moment in (clock.now() - timedelta(hours=1), clock.now() + LEAF_LIFE + timedelta(seconds=1)):
        with pytest.raises(VerificationError):
            policy.time(moment).build_client_verifier().verify(leaf, [])
    other = Store([parsed(Authority.create("mallee", clock).pem)])
    with pytest.raises(VerificationError):
        PolicyBuilder().store(other).time(clock.now()).build_client_verifier().verify(leaf, [])


async def test_no_leaf_outlives_its_authority(authority: Authority, clock: ManualClock) -> None:
    ends = parsed(authority.pem).not_valid_after_utc
    await clock.advance((AUTHORITY_LIFE - timedelta(hours=1)).total_seconds())

    assert parsed(authority.issue(NC).certificate).not_valid_after_utc == ends


@pytest.mark.parametrize("who", [Identity("other", "nc", "n1"), Identity("mallee", ANYONE, "n1")])
def test_only_our_services_are_certified(authority: Authority, who: Identity) -> None:
    with pytest.raises(Fault) as caught:
        authority.issue(who)

    assert caught.value.kind is Kind.FORBIDDEN


def test_the_authority_is_made_once_and_kept_private(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "clc" / "pki"
    first = Authority.open(folder, "mallee", clock)
    again = Authority.open(folder, "mallee", clock)

    assert again.pem == first.pem
    assert cloud_of(again.pem) == "mallee"
    assert parsed(again.issue(NC).certificate).issuer == parsed(first.pem).subject
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_another_clouds_folder_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    Authority.open(tmp_path, "mallee", clock)

    with pytest.raises(Fault) as caught:
        Authority.open(tmp_path, "other", clock)

    assert caught.value.code == "wrong-authority"


def test_a_folder_without_the_key_is_refused_and_nothing_is_overwritten(
    tmp_path: Path, clock: ManualClock
) -> None:
    pem = Authority.open(tmp_path, "mallee", clock).pem
    (tmp_path / "authority.key").unlink()

    with pytest.raises(Fault):
        Authority.open(tmp_path, "mallee", clock)

    assert (tmp_path / "authority.pem").read_bytes() == pem


def test_a_crash_between_key_and_certificate_is_mended(tmp_path: Path, clock: ManualClock) -> None:
    Authority.open(tmp_path, "mallee", clock)
    (tmp_path / "authority.pem").unlink()

    made = Authority.open(tmp_path, "mallee", clock)

    assert Authority.open(tmp_path, "mallee", clock).pem == made.pem


async def test_issued_keys_are_renewed_at_half_of_their_life(
    authority: Authority, clock: ManualClock
) -> None:
    keys = IssuedKeys(authority.issue, clock)
    first = keys.current(NC)

    await clock.advance(LEAF_LIFE.total_seconds() * 0.45)
    assert keys.current(NC) is first
    await clock.advance(LEAF_LIFE.total_seconds() * 0.1)

    assert keys.current(NC) is not first
    assert keys.current(NC) is keys.current(NC)
    assert parsed(keys.current(NC).certificate).not_valid_after_utc == clock.now() + LEAF_LIFE


def joined(authority: Authority, keys: StoredKeys, who: Identity = NC) -> Credentials:
    key, request = keys.request(who)
    return Credentials(key, authority.sign_csr(request, who), authority.pem)


async def test_stored_keys_survive_a_restart_and_say_when_they_are_due(
    authority: Authority, clock: ManualClock, tmp_path: Path
) -> None:
    keys = StoredKeys(tmp_path / "pki", clock)
    assert keys.due(NC)
    keys.install(NC, joined(authority, keys))
    assert not keys.due(NC)

    again = StoredKeys(tmp_path / "pki", clock)
    assert again.current(NC) == keys.current(NC)
    assert again.expires(NC) == clock.now() + LEAF_LIFE
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "pki").iterdir()} == {0o600}
    await clock.advance(LEAF_LIFE.total_seconds() * 0.51)
    assert again.due(NC)
    before = again.current(NC)
    again.install(NC, joined(authority, again))
    assert again.current(NC) is not before
    assert not again.due(NC)


async def test_what_another_has_renewed_in_the_same_folder_is_found(
    authority: Authority, clock: ManualClock, tmp_path: Path
) -> None:
    """A node's transport and whoever renews its certificate: the transport went on with what had expired."""
    used, renewing = StoredKeys(tmp_path, clock), StoredKeys(tmp_path, clock)
    renewing.install(NC, joined(authority, renewing))
    first = used.current(NC)
    await clock.advance(LEAF_LIFE.total_seconds() * 0.51)
    assert used.current(NC) is first
    renewing.install(NC, joined(authority, renewing))

    assert used.current(NC) == renewing.current(NC) != first
    assert used.current(NC) is used.current(NC)


def test_a_service_that_has_not_joined(clock: ManualClock, tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        StoredKeys(tmp_path, clock).current(NC)

    assert (caught.value.kind, caught.value.code) == (Kind.NOT_FOUND, "not-joined")


def test_a_certificate_of_another_key_or_name_is_not_installed(
    authority: Authority, clock: ManualClock, tmp_path: Path
) -> None:
    keys = StoredKeys(tmp_path, clock)
    one, two = joined(authority, keys), joined(authority, keys)
    other = joined(authority, keys, Identity("mallee", "nc", "az1-n2"))

    for wrong in (Credentials(one.key, two.certificate, authority.pem), other):
        with pytest.raises(Fault) as caught:
            keys.install(NC, wrong)
        assert caught.value.code == "wrong-certificate"
    assert keys.due(NC)


def test_a_request_gives_its_key_and_nothing_else(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clc")]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://mallee/clc/one")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )

    leaf = parsed(authority.sign_csr(greedy, NC))

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [NC.uri]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.public_key() == key.public_key()


def _request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def _forged() -> bytes:
    signed = x509.load_pem_x509_csr(_request(ec.generate_private_key(ec.SECP256R1())))
    der = bytearray(signed.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"not a request",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        _request(rsa.generate_private_key(65537, 2048)),
        _request(ec.generate_private_key(ec.SECP384R1())),
        _forged(),
    ],
    ids=["empty", "text", "not-der", "rsa", "p-384", "forged"],
)
def test_a_bad_request_is_refused(authority: Authority, pem: bytes) -> None:
    with pytest.raises(Fault) as caught:
        authority.sign_csr(pem, NC)

    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad-csr")


def test_a_token_carries_what_a_node_must_know(authority: Authority) -> None:
    text = mint_join_token(authority.pem, "10.0.0.1:8775", "az1", "az1-n7", SECRET)

    token = read_join_token(f"  {text}\n")

    assert (token.authority, token.address, token.zone) == (authority.pem, "10.0.0.1:8775", "az1")
    assert (token.node_name, token.secret) == ("az1-n7", SECRET)
    assert token.secret_hash == hash_secret(SECRET)
    assert text.isascii()
    assert not any(letter.isspace() for letter in text)
    assert len(text) < 1000


def test_a_damaged_token_is_refused(authority: Authority) -> None:
    text = mint_join_token(authority.pem, "10.0.0.1:8775", "az1", "az1-n7", SECRET)
    damaged = [text[:cut] for cut in range(0, len(text), 7)]
    damaged += [
        text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :] for at in range(12, len(text), 11)
    ]
    damaged += ["", "mallee-join.", "é", "mallee-join.%%%", text + text]

    for wrong in damaged:
        with pytest.raises(Fault) as caught:
            read_join_token(wrong)
        assert caught.value.code == "bad-token"


def test_keys_and_secrets_are_not_shown(authority: Authority) -> None:
    credentials = authority.issue(NC)
    token = read_join_token(mint_join_token(authority.pem, "a:1", "z", "n", SECRET))

    assert "PRIVATE" not in repr(credentials)
    assert "PRIVATE" not in str(credentials)
    assert repr(SECRET)[2:8] not in repr(token)


def test_processes_that_begin_at_once_believe_in_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda _: Authority.open(tmp_path / "keys", "mallee", ManualClock()).pem, range(8))
        )

    assert len(set(made)) == 1
    assert made[0] == (tmp_path / "keys" / "authority.pem").read_bytes()
