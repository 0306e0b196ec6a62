"""Making SignedData: signed messages, and bare sets of certificates. Source: RFC 5652 section 5."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, key_algorithm_of
from intaglio.asn1.signature_schemes import Digest, SignatureScheme, signature_scheme
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.cms import identifiers as ids

_VERSION_1 = der.integer(1)
_VERSION_3 = der.integer(3)
_RSA_ENCRYPTION = der.sequence(der.oid(ids.RSA_ENCRYPTION), der.null())


def sign(
    content: bytes,
    certificate: CertificateInfo,
    key: PrivateKey,
    *,
    digest: Digest | None = None,
    content_type: str = ids.DATA,
    attributes: Sequence[bytes] = (),
    signing_time: datetime | None = None,
    certificates: Sequence[bytes] | None = None,
    crls: Sequence[bytes] = (),
    scheme: SignatureScheme | None = None,
) -> bytes:
    """ContentInfo with SignedData over ``content``, signed by ``key``, whose certificate is ``certificate``.

    ``digest`` is SHA-256 unless said otherwise, and SHA-512 for keys that sign messages themselves (RFC 8419);
    ``attributes`` are finished Attributes (:func:`~intaglio.x509.cms.identifiers.attribute`) to be signed beside
    content-type and message-digest; ``certificates`` (DER) go along, the signer's alone unless said otherwise.
    ``scheme`` is for signatures that ``digest`` does not describe (another hash in the signature, RSASSA-PSS).
    Blocks for as long as the key takes: slow keys call it in their own thread (``Signer.using``).

    Raises InvalidInput (``key-algorithm-not-allowed``).
    """
    algorithm = key_algorithm_of(key)
    digest = digest or ("sha256" if algorithm.hash_name else "sha512")
    chosen = scheme or signature_scheme(algorithm, digest if algorithm.hash_name else None)
    digest_algorithm = der.sequence(der.oid(ids.DIGEST_OIDS[digest]))
    signed = _signed_attributes(content, content_type, digest, attributes, signing_time)
    signer = der.sequence(
        _VERSION_1,
        der.sequence(certificate.issuer.der, der.integer(certificate.serial)),
        digest_algorithm,
        der.explicit(0, signed[der.header(signed, 0, len(signed))[1] :]),
        _identifier(algorithm, chosen, scheme is not None),
        der.octet_string(chosen.bind(key)(signed)),
    )
    along = (certificate.der,) if certificates is None else certificates
    return ids.content_info(
        ids.SIGNED_DATA,
        der.sequence(
            _VERSION_1 if content_type == ids.DATA else _VERSION_3,
            der.set_of(digest_algorithm),
            der.sequence(der.oid(content_type), der.explicit(0, der.octet_string(content))),
            _sets(sorted(along), crls),
            der.set_of(signer),
        ),
    )


def certificates_only(certificates: Sequence[bytes], crls: Sequence[bytes] = (), *, keep_order: bool = False) -> bytes:
    """ContentInfo with a SignedData that nobody signed: a bag of certificates and CRLs (DER).

    ``keep_order`` is for clients that take the first certificate for the one they asked for; it is BER then, for DER
    sorts sets. Source: RFC 8894 section 3.4, RFC 7030 section 4.1.3, RFC 5751 section 3.7.
    """
    return ids.content_info(
        ids.SIGNED_DATA,
        der.sequence(
            _VERSION_1,
            der.tlv(der.SET, b""),
            der.sequence(der.oid(ids.DATA)),
            _sets(certificates if keep_order else sorted(certificates), crls),
            der.tlv(der.SET, b""),
        ),
    )


def _identifier(algorithm: KeyAlgorithm, chosen: SignatureScheme, special: bool) -> bytes:
    """The signature algorithm: rsaEncryption for RSA keys, with the digest that stands before it. All implementations
    have to know that one (RFC 3370 section 3.2), and strongSwan knows no other."""
    return _RSA_ENCRYPTION if algorithm.value.startswith("rsa-") and not special else chosen.identifier


def _sets(certificates: Sequence[bytes], crls: Sequence[bytes]) -> bytes:
    found = der.explicit(0, b"".join(certificates)) if certificates else b""
    return found + (der.explicit(1, b"".join(crls)) if crls else b"")


def _signed_attributes(
    content: bytes, content_type: str, digest: Digest, attributes: Sequence[bytes], signing_time: datetime | None
) -> bytes:
    """The SET OF that is signed; in the SignerInfo it has another tag. Source: RFC 5652 section 5.4."""
    own = [
        ids.attribute(ids.CONTENT_TYPE, der.oid(content_type)),
        ids.attribute(ids.MESSAGE_DIGEST, der.octet_string(hashlib.new(digest, content).digest())),
    ]
    if signing_time is not None:
        own.append(ids.attribute(ids.SIGNING_TIME, der.utc_or_generalized_time(signing_time)))
    return der.set_of(*own, *attributes)
