"""Verifying timestamps, and asking for them: the relying party's side.

A token is good when it is about this data, its signature is that of a certificate made for timestamping, the signed
attributes name that certificate and the content, and the certificate leads up to a root that is trusted and was valid
at the time that the token names. Sources: RFC 3161 section 2.3 and 2.4.2, RFC 5035 section 3, RFC 5652 section 5.6.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput, Refused
from intaglio.timestamping import tokens
from intaglio.timestamping.checks import certificate_findings, ordered_chain
from intaglio.timestamping.reading import Token
from intaglio.timestamping.requests import HASHES
from intaglio.x509.certificates import CertificateInfo

_RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
_WITH_DIGEST: Final[dict[str, str]] = {
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_NONCE_OCTETS: Final = 8


@dataclass(frozen=True)
class Query:
    """A request to be sent, and what its answer has to repeat."""

    der: bytes
    digest: bytes
    nonce: int


def make_query(digest: bytes, hash_name: str, *, policy: str | None = None, certificates: bool = True) -> Query:
    """A request over a hash (``hash_name`` as in :data:`~intaglio.timestamping.requests.HASHES`).

    Raises InvalidInput for a hash that is not known, or an OID that is none.
    """
    known = next((oid for oid, (name, _) in HASHES.items() if name == hash_name), None)
    if known is None:
        raise InvalidInput(f'"{hash_name[:40]}" is no hash algorithm for timestamps.', code="hash-algorithm-unknown")
    nonce = int.from_bytes(secrets.token_bytes(_NONCE_OCTETS), "big")
    imprint = der.sequence(
        der.sequence(der.tlv(der.OBJECT_IDENTIFIER, known), der.null()), der.octet_string(digest)
    )
    parts = [der.integer(1), imprint, der.oid(policy) if policy else b"", der.integer(nonce)]
    return Query(der.sequence(*parts, der.boolean(True) if certificates else b""), digest, nonce)


def verify_token(
    token: Token,
    roots: Sequence[CertificateInfo],
    *,
    digest: bytes | None = None,
    nonce: int | None = None,
    untrusted: Sequence[CertificateInfo] = (),
) -> tuple[CertificateInfo, ...]:
    """The chain of the signer up to a root, when everything holds; otherwise Refused with what does not.

    ``digest`` is the hash of the data, ``nonce`` that of the request; None does not look. ``untrusted`` are
    certificates that may be used between signer and root besides those in the token. Whether certificates were revoked
    is not looked at.
    """
    if digest is not None and token.info.digest != digest:
        raise _bad("other-data", "The timestamp is about other data.")
    if nonce is not None and token.info.nonce != nonce:
        raise _bad("other-request", "The timestamp answers another request: its nonce is another one.")
    signer = _signer(token, (*token.certificates, *untrusted))
    _require_attributes(token, signer)
    _require_signature(token, signer)
    # The trusted certificate of a root, not one with its name and key that came with the token.
    others = (*roots, *token.certificates, *untrusted)
    chain = ordered_chain(signer, others)
    if not any(chain and chain[-1].spki == root.spki and chain[-1].subject.key == root.subject.key for root in roots):
        raise _bad("untrusted", "The certificate of the signer does not lead up to a root that you trust.")
    wrong = certificate_findings(signer, chain, signer.spki, token.info.time)
    if wrong:
        raise _bad("certificate", wrong[0].detail)
    return (signer, *chain)


def hash_of(data: bytes, hash_name: str) -> bytes:
    """The hash of data by the name it has here (``sha256``, ``sha3-256``)."""
    return hashlib.new(hash_name.replace("sha3-", "sha3_"), data).digest()


def _signer(token: Token, known: Sequence[CertificateInfo]) -> CertificateInfo:
    for each in known:
        if der.sequence(each.issuer.der, der.integer(each.serial)) == token.issuer_and_serial:
            return each
    raise _bad(
        "no-certificate",
        "The certificate of the signer is not in the timestamp.",
        "Give it, or ask for timestamps with certificates.",
    )


def _require_attributes(token: Token, signer: CertificateInfo) -> None:
    found = token.attributes
    digest = hashlib.new(token.digest_name, token.content).digest()
    if found.get(tokens.CONTENT_TYPE) != der.oid(tokens.TST_INFO):
        raise _bad("attributes", "The signed attributes do not say that this is a timestamp.")
    if found.get(tokens.MESSAGE_DIGEST) != der.octet_string(digest):
        raise _bad("attributes", "The signed digest is not that of the timestamp.")
    if tokens.SIGNING_CERTIFICATE_V2 in found:
        named = _named_certificate(found[tokens.SIGNING_CERTIFICATE_V2])
        if named != hashlib.sha256(signer.der).digest():
            raise _bad("attributes", "The signed attributes name another certificate.")
    elif tokens.SIGNING_CERTIFICATE in found:
        named = _named_certificate(found[tokens.SIGNING_CERTIFICATE])
        if named != hashlib.sha1(signer.der, usedforsecurity=False).digest():
            raise _bad("attributes", "The signed attributes name another certificate.")
    else:
        raise _bad("attributes", "The signed attributes name no certificate.")


def _named_certificate(value: bytes) -> bytes:
    """The hash in the first ESSCertID; empty for one that was made with another algorithm than the default."""
    identifier = der.Reader(value).enter().enter().enter()
    named = identifier.optional(der.OCTET_STRING)
    return b"" if named is None else named.content


def _require_signature(token: Token, signer: CertificateInfo) -> None:
    oid = der.decode_oid(der.Reader(token.signature_algorithm).enter().read(der.OBJECT_IDENTIFIER).content)
    if oid == _RSA_ENCRYPTION:
        oid = _WITH_DIGEST[token.digest_name]
    if not algorithms.verify(signer.public_key, oid, token.signature, token.signed_attributes):
        raise _bad("signature", "The signature of the timestamp is not valid.")


def _bad(code: str, detail: str, remedy: str | None = None) -> Refused:
    return Refused(detail, code=f"timestamp-{code}", remedy=remedy)
