"""Path validation of the certificates that applicants come with, from CAs that an endpoint names.

OpenSSL's validation does it, as in every TLS handshake of the product: signatures, dates, basic constraints, path
length, name constraints, critical extensions. Source: RFC 5280 section 6.1. It lets signatures pass that can be forged
and keys that can be broken, so these are looked for here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import crypto

from intaglio.core.errors import InvalidInput, Unauthenticated
from intaglio.x509.certificates import CertificateInfo, read_certificate

MAX_CERTIFICATES = 20
UNTRUSTED: Final = "certificate-untrusted"
_LONGEST_REASON = 200
_SHORTEST_RSA = 2048  # bits


def verify(chain: Sequence[bytes], anchors: Sequence[bytes], now: datetime) -> CertificateInfo:
    """The end-entity certificate ``chain[0]`` once a path leads from it, over any of the others, to one of ``anchors``.

    All are DER. An anchor need not be a root. Revocation is not looked at. Raises Unauthenticated
    (``certificate-untrusted``) with the reason.
    """
    if not chain or len(chain) > MAX_CERTIFICATES:
        raise untrusted(f"a chain has 1 to {MAX_CERTIFICATES} certificates")
    if not anchors:
        raise untrusted("nobody is trusted here")
    try:
        info = read_certificate(chain[0])
        store = crypto.X509Store()
        for anchor in anchors:
            store.add_cert(_loaded(anchor))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        store.set_time(now.astimezone(UTC).replace(tzinfo=None))
        between = [_loaded(each) for each in chain[1:]]
        context = crypto.X509StoreContext(store, _loaded(chain[0]), between)
        path = [each.to_cryptography() for each in context.get_verified_chain()]
    except (InvalidInput, crypto.Error, ValueError):
        raise untrusted("a certificate cannot be read") from None
    except crypto.X509StoreContextError as error:
        raise untrusted(str(error)) from None
    _require_strong(path)
    return info


def untrusted(why: str) -> Unauthenticated:
    """The refusal of a certificate that nobody here vouches for."""
    return Unauthenticated(
        f"The certificate is not accepted: {why[:_LONGEST_REASON]}.",
        code=UNTRUSTED,
        remedy="Come with a certificate of a CA that the endpoint trusts, and with the certificates between.",
    )


def _require_strong(path: Sequence[x509.Certificate]) -> None:
    """Raise Unauthenticated when somebody could have forged a certificate below the anchor, which ends the path."""
    for certificate in path[:-1]:
        try:
            digest = certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:  # one that OpenSSL knows, and signs without a digest beside it
            digest = None
        except ValueError:
            raise untrusted("a certificate cannot be read") from None
        if isinstance(digest, hashes.MD5 | hashes.SHA1):
            raise untrusted(f"a certificate on its path is signed with {digest.name.upper()}")
    for certificate in path:
        try:
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise untrusted("a key on its path cannot be read") from None
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA:
            raise untrusted(f"a key on its path has {key.key_size} bits")


def _loaded(certificate: bytes) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, certificate)
