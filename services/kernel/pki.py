"""Keys and certificates of the cloud's own services: a private authority, short lives, SPIFFE names.

The authority is made at first start and its key stays in one folder. Every service has a P-256 key
and a certificate of a day, renewed at half of its life, so nothing needs to be revoked. A node joins
with a token that carries the authority's certificate: it knows whom to trust before its first call.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.identity import ANYONE, Identity
from mallee.kernel.rpc.keys import Credentials
from mallee.kernel.state_folder import alone, replace

LEAF_LIFE = timedelta(hours=24)
AUTHORITY_LIFE = timedelta(days=3650)
CLOCK_SKEW = timedelta(minutes=5)  # a peer's clock may be this far behind ours
_TOKEN_PREFIX = "mallee-join."  # noqa: S105 - says what the text is, not what it hides


class Authority:
    """The cloud's certificate authority.

    Args:
        cloud: the trust domain.
        key: signs.
        certificate: what every peer trusts.
        clock: when certificates begin and end.
    """

    def __init__(
        self, cloud: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, clock: Clock
    ) -> None:
        self.cloud = cloud
        self.pem = certificate.public_bytes(Encoding.PEM)
        self._key = key
        self._certificate = certificate
        self._clock = clock

    @classmethod
    def open(cls, folder: Path, cloud: str, clock: Clock) -> Authority:
        """The authority whose files are in `folder`; made at the first start.

        Raises:
            Fault: CONFLICT, when the folder holds another cloud's authority, or half of one.
        """
        key_file, certificate_file = folder / "authority.key", folder / "authority.pem"
        if not certificate_file.exists():
            with alone(folder):  # two that begin at once would each believe in an authority of its own
                if not certificate_file.exists():
                    made = cls.create(cloud, clock)
                    # The certificate last: with it there, both are whole.
                    replace(key_file, _key_pem(made._key))  # noqa: SLF001 - its own class
                    replace(certificate_file, made.pem)
                    return made
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        if not key_file.exists() or _cloud_name(certificate) != cloud:
            raise Fault(
                Kind.CONFLICT,
                f"{folder} does not hold the authority of cloud {cloud!r}.",
                why=f"It is that of {_cloud_name(certificate)!r}, or its key is missing.",
                fix="Point the state folder at this cloud's own, or restore the key from a backup.",
                code="wrong-authority",
            )
        return cls(cloud, _load_key(key_file.read_bytes()), certificate, clock)

    @classmethod
    def create(cls, cloud: str, clock: Clock) -> Authority:
        """A new authority, in memory only."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cloud),
                x509.NameAttribute(NameOID.COMMON_NAME, "authority"),
            ]
        )
        now = clock.now()
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.SubjectAlternativeName([_uri(f"spiffe://{cloud}")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(cloud, key, certificate, clock)

    def at(self, clock: Clock) -> Authority:
        """The same authority under another clock: what it certifies begins and ends by that one."""
        return Authority(self.cloud, self._key, self._certificate, clock)

    def issue(self, who: Identity) -> Credentials:
        """A new key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Credentials(_key_pem(key), self._certify(who, key.public_key()), self.pem)

    def sign_csr(self, csr_pem: bytes, who: Identity) -> bytes:
        """A certificate in PEM for the key of a signing request.

        Only the key is taken from the request: who its owner is, the caller of this function knows.

        Raises:
            Fault: INVALID, when it is no request, not signed by its key, or the key is not P-256.
        """
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            key = request.public_key()
        except ValueError as error:
            raise _bad_request(str(error)) from None
        if not request.is_signature_valid:
            raise _bad_request("It is not signed by its own key.")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _bad_request("Its key is not of the curve P-256.")
        return self._certify(who, key)

    def _certify(self, who: Identity, key: ec.EllipticCurvePublicKey) -> bytes:
        if who.cloud != self.cloud or who.role == ANYONE:
            raise Fault(Kind.FORBIDDEN, f"{who.uri} is not ours to certify.", code="foreign-cloud")
        now = self._clock.now()
        names = [_uri(who.uri), *(x509.DNSName(name) for name in who.dns_names)]
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who.common_name)])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder(self._certificate.subject, subject, key, x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + LEAF_LIFE, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


@dataclass(slots=True)
class _Held:
    credentials: Credentials
    renew_at: datetime
    expires: datetime


class IssuedKeys:
    """Keys of services in the same process as the authority: made when first asked for, kept in memory.

    `issue` is `Authority.issue`, or an `Enrolled` service's own request.
    """

    def __init__(self, issue: Callable[[Identity], Credentials], clock: Clock) -> None:
        self._issue = issue
        self._clock = clock
        self._held: dict[Identity, _Held] = {}

    def current(self, me: Identity) -> Credentials:
        held = self._held.get(me)
        if held is None or self._clock.now() >= held.renew_at:
            held = self._held[me] = _hold(self._issue(me))
        return held.credentials


class StoredKeys:
    """Keys of a service in its own state folder, certified from afar.

    `request` makes a key and asks, `install` takes the answer; `due` says when it is time again.

    Args:
        folder: holds a key and a certificate per identity, and the authority's certificate.
        clock: when renewal is due.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._held: dict[Identity, _Held] = {}

    def current(self, me: Identity) -> Credentials:
        """Raises Fault NOT_FOUND when the service has not joined yet."""
        return self._find(me).credentials

    def due(self, me: Identity) -> bool:
        """Whether a new certificate should be asked for: there is none, or half of its life is over."""
        try:
            return self._clock.now() >= self._find(me).renew_at
        except Fault:
            return True

    def expires(self, me: Identity) -> datetime:
        """When peers will refuse the present certificate."""
        return self._find(me).expires

    @staticmethod
    def request(me: Identity) -> tuple[bytes, bytes]:
        """A new key and a signing request for it, both in PEM. The key is kept by `install`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, me.common_name)])
        request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
        return _key_pem(key), request.public_bytes(Encoding.PEM)

    def install(self, me: Identity, credentials: Credentials) -> None:
        """Store them and use them from the next connection on.

        One file, replaced whole: a crash leaves the old ones or the new ones.

        Raises:
            Fault: INVALID, when the certificate is not of that key and identity.
        """
        certificate = x509.load_pem_x509_certificate(credentials.certificate)
        same_key = certificate.public_key() == _load_key(credentials.key).public_key()
        if not same_key or _spiffe_ids(certificate) != [me.uri]:
            raise Fault(
                Kind.INVALID,
                f"This is not a certificate for {me.uri} and its key.",
                fix="Join again with a new token.",
                code="wrong-certificate",
            )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self._file(me), msgspec.msgpack.encode(credentials))
        self._held[me] = _hold(credentials)

    def _find(self, me: Identity) -> _Held:
        held = self._held.get(me)
        # Who renews them may have an object of his own for the same folder.
        if held is None or self._clock.now() >= held.renew_at:
            file = self._file(me)
            if not file.exists():
                raise Fault(
                    Kind.NOT_FOUND,
                    f"{me} has no certificate yet.",
                    fix="Join the cloud with a token: `mallee node join TOKEN`.",
                    code="not-joined",
                )
            kept = msgspec.msgpack.decode(file.read_bytes(), type=Credentials)
            if held is None or held.credentials != kept:
                held = self._held[me] = _hold(kept)
        return held

    def _file(self, me: Identity) -> Path:
        return self._folder / f"{me.role}-{me.name}.credentials"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What an operator carries from the cloud to a new node.

    Args:
        authority: the certificate that the enrolment server must come from; PEM.
        address: of the enrolment server.
        zone: where the node will be.
        node_name: the only name that the token is good for.
        secret: known to the bearer; the cloud keeps `secret_hash` alone.
    """

    authority: bytes
    address: str
    zone: str
    node_name: str
    secret: bytes

    @property
    def secret_hash(self) -> str:
        return hash_secret(self.secret)

    def __repr__(self) -> str:
        return f"JoinToken({self.node_name!r}, {self.zone!r}, {self.address!r})"


def hash_secret(secret: bytes) -> str:
    """SHA-256 in hexadecimal: enough for a random secret of 32 bytes, which nobody can guess."""
    return hashlib.sha256(secret).hexdigest()


def mint_join_token(authority_pem: bytes, address: str, zone: str, node_name: str, secret: bytes) -> str:
    """A token as text without spaces; store `hash_secret(secret)` and when it ends, not the secret."""
    authority = x509.load_pem_x509_certificate(authority_pem).public_bytes(Encoding.DER)
    packed = msgspec.msgpack.encode((authority, address, zone, node_name, secret))
    checked = packed + hashlib.sha256(packed).digest()[:4]  # a token copied in part says so itself
    return _TOKEN_PREFIX + base64.urlsafe_b64encode(checked).rstrip(b"=").decode()


def read_join_token(text: str) -> JoinToken:
    """What `mint_join_token` wrote.

    Raises:
        Fault: INVALID, when the text is not a whole token.
    """
    try:
        body = text.strip().removeprefix(_TOKEN_PREFIX)
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        packed, check = raw[:-4], raw[-4:]
        parts = msgspec.msgpack.decode(packed, type=tuple[bytes, str, str, str, bytes])
        authority = x509.load_der_x509_certificate(parts[0]).public_bytes(Encoding.PEM)
    except (ValueError, msgspec.DecodeError) as error:
        raise _bad_token(str(error)) from None
    if hashlib.sha256(packed).digest()[:4] != check:
        raise _bad_token("Some of its characters are wrong.")
    return JoinToken(authority, *parts[1:])


def _hold(credentials: Credentials) -> _Held:
    certificate = x509.load_pem_x509_certificate(credentials.certificate)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return _Held(credentials, begins + (ends - begins) / 2, ends)


def _usage(*, signs: bool) -> x509.KeyUsage:
    """A leaf signs handshakes; an authority signs certificates and nothing else."""
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=not signs,
        crl_sign=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "we make no other keys"
    return key


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def _spiffe_ids(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _cloud_name(authority: x509.Certificate) -> str:
    return _spiffe_ids(authority)[0].removeprefix("spiffe://")


def _bad_request(why: str) -> Fault:
    return Fault(
        Kind.INVALID, "The signing request is refused.", why=why, fix="Make a new P-256 key.", code="bad-csr"
    )


def _bad_token(why: str) -> Fault:
    return Fault(
        Kind.INVALID,
        "This is not a join token.",
        why=why,
        fix="Copy the whole token, on one line, as it was printed.",
        code="bad-token",
    )
