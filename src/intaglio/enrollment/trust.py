"""Path validation of the certificates that applicants come with, from CAs that an endpoint names.

OpenSSL's validation does it, as in every TLS handshake of the product: signatures, dates, basic constraints, path
length, name constraints, critical extensions. Source: RFC 5280 section 6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from OpenSSL import crypto

from intaglio.core.errors import InvalidInput, Unauthenticated
from intaglio.x509.certificates import CertificateInfo, read_certificate

MAX_CERTIFICATES = 20
UNTRUSTED: Final = "certificate-untrusted"
_LONGEST_REASON = 200


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
        crypto.X509StoreContext(store, _loaded(chain[0]), between).verify_certificate()
    except (InvalidInput, crypto.Error, ValueError):
        raise untrusted("a certificate cannot be read") from None
    except crypto.X509StoreContextError as error:
        raise untrusted(str(error)) from None
    return info


def untrusted(why: str) -> Unauthenticated:
    """The refusal of a certificate that nobody here vouches for."""
    return Unauthenticated(
        f"The certificate is not accepted: {why[:_LONGEST_REASON]}.",
        code=UNTRUSTED,
        remedy="Come with a certificate of a CA that the endpoint trusts, and with the certificates between.",
    )


def _loaded(certificate: bytes) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, certificate)
