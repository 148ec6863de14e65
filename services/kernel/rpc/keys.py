"""What a transport needs of a service's keys; `kernel.pki` makes and renews them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.identity import Identity


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who a service is. PEM throughout.

    Args:
        key: the private key; never leaves the service's folder and memory.
        certificate: the service's own, first of its chain.
        authority: the certificates that peers must come from.
    """

    key: bytes
    certificate: bytes
    authority: bytes

    def __repr__(self) -> str:
        return "Credentials(…)"  # a key never reaches a log


class Keys(Protocol):
    """Where a transport finds the credentials of the identities it serves."""

    def current(self, me: Identity) -> Credentials:
        """Valid now; the same object until renewed. Called per connection and call, from any thread."""


def cloud_of(authority_pem: bytes) -> str:
    """The trust domain that a certificate authority speaks for.

    Raises:
        Fault: INVALID, when it is not the authority of a cloud.
    """
    try:
        authority = x509.load_pem_x509_certificate(authority_pem)
        names = authority.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Fault(
            Kind.INVALID, "This is not the certificate of a cloud.", why=str(error), code="bad-authority"
        ) from None
    return uris[0].removeprefix("spiffe://") if uris else ""
