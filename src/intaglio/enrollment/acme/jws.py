"""Requests as JSON Web Signatures: the flattened JSON serialization, and of it only what ACME admits.

Sources: RFC 7515 (JWS), RFC 7518 section 3 (algorithms), RFC 8037 and 9864 (EdDSA), RFC 8555 sections 6.2 and 7.3.4.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from intaglio.enrollment.acme.errors import BadSignatureAlgorithm, Malformed, Unauthorized
from intaglio.enrollment.acme.jwk import AccountKey, Jwk, read_jwk
from intaglio.enrollment.acme.strict_json import decode_base64url, read_object, text_member

#: Octets of a message; a certificate request of 64 KiB, twice in base64, fits.
MAX_OCTETS: Final = 128 * 1024
_MAX_PROTECTED: Final = 8 * 1024  # characters
_MAX_SIGNATURE: Final = 1400
_LONGEST_TEXT: Final = 2048

_RSA_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_EC_CURVES: Final[Mapping[str, tuple[str, hashes.HashAlgorithm, int]]] = {
    "ES256": ("P-256", hashes.SHA256(), 32),
    "ES384": ("P-384", hashes.SHA384(), 48),
    "ES512": ("P-521", hashes.SHA512(), 66),
}
_EDWARDS: Final[Mapping[str, tuple[str, ...]]] = {
    "EdDSA": ("Ed25519", "Ed448"),
    "Ed25519": ("Ed25519",),
    "Ed448": ("Ed448",),
}
#: What accounts sign with. "none" and the HMAC algorithms are not among it (RFC 8555 section 6.2).
ALGORITHMS: Final = frozenset(
    {*_EC_CURVES, *_EDWARDS, *(f"{kind}{bits}" for kind in ("RS", "PS") for bits in _RSA_HASHES)}
)
_HMAC: Final[Mapping[str, str]] = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


@dataclass(frozen=True)
class Jws:
    """A message taken apart; nothing of it is proven before its signature is verified."""

    protected: Mapping[str, Any]
    payload: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def algorithm(self) -> str:
        return str(self.protected["alg"])

    @property
    def url(self) -> str | None:
        return self._text("url")

    @property
    def nonce(self) -> str | None:
        return self._text("nonce")

    @property
    def kid(self) -> str | None:
        return self._text("kid")

    @property
    def jwk(self) -> Jwk:
        """The key in the header. Raises Malformed, BadPublicKey."""
        return read_jwk(self.protected.get("jwk"))

    @property
    def has_jwk(self) -> bool:
        return "jwk" in self.protected

    def _text(self, name: str) -> str | None:
        value = self.protected.get(name)
        if value is None and name not in self.protected:
            return None
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
            raise Malformed(f'"{name}" of the protected header is not a string, or too long.')
        return value

    def verify(self, jwk: Jwk) -> None:
        """Return when the signature is that of the key. Raises Unauthorized, BadSignatureAlgorithm."""
        if not _is_valid(self.algorithm, jwk, self.signature, self.signing_input):
            raise Unauthorized("The signature of the request is not that of the key.")

    def verify_hmac(self, secret: bytes) -> None:
        """The same under a shared secret (RFC 8555 section 7.3.4). Raises Unauthorized, BadSignatureAlgorithm."""
        digest = _HMAC.get(self.algorithm)
        if digest is None:
            raise BadSignatureAlgorithm("An external account binding is signed with HS256, HS384 or HS512.")
        expected = hmac.digest(secret, self.signing_input, digest)
        if not hmac.compare_digest(expected, self.signature):
            raise Unauthorized("The MAC of the external account binding is not that of its key.")


def parse_request(data: bytes) -> Jws:
    """A signed request: ``alg`` is one of ours, and there is either ``kid`` or ``jwk``. Raises Malformed,
    BadSignatureAlgorithm."""
    if len(data) > MAX_OCTETS:
        raise Malformed(f"A request has at most {MAX_OCTETS} octets.")
    message = parse(read_object(data, "The request"))
    if message.algorithm not in ALGORITHMS:
        raise BadSignatureAlgorithm(f'The signature algorithm "{message.algorithm[:20]}" is not accepted.')
    if ("kid" in message.protected) == message.has_jwk:
        raise Malformed("The protected header has either kid or jwk.")
    return message


def parse(value: Any) -> Jws:
    """The flattened JSON serialization in a JSON value (RFC 7515 section 7.2.2). Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed("The JWS is not a JSON object.")
    if "header" in value or "signatures" in value:
        raise Malformed("The JWS is flattened and has no unprotected header (RFC 8555 section 6.2).")
    parts = ("protected", "payload", "signature")
    protected, payload, signature = (text_member(value, name, "The JWS") for name in parts)
    if len(protected) > _MAX_PROTECTED or len(signature) > _MAX_SIGNATURE:
        raise Malformed("A part of the JWS is too long.")
    header = read_object(decode_base64url(protected, "The protected header"), "The protected header")
    text_member(header, "alg", "The protected header")
    if "crit" in header or "b64" in header:
        raise Malformed("The protected header asks for an extension that is not understood here.")
    return Jws(
        header,
        decode_base64url(payload, "The payload"),
        f"{protected}.{payload}".encode("ascii"),
        decode_base64url(signature, "The signature"),
    )


def _is_valid(algorithm: str, jwk: Jwk, signature: bytes, data: bytes) -> bool:
    key: AccountKey = jwk.key
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            return _verify_ec(algorithm, jwk, key, signature, data)
        if isinstance(key, rsa.RSAPublicKey):
            _verify_rsa(algorithm, key, signature, data)
        else:
            _verify_edwards(algorithm, jwk, key, signature, data)
    except InvalidSignature:
        return False
    return True


def _verify_ec(algorithm: str, jwk: Jwk, key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    curve, digest, size = _EC_CURVES.get(algorithm, (None, hashes.SHA256(), 0))
    if curve != jwk.curve:
        raise _does_not_fit(algorithm)
    if len(signature) != 2 * size:  # RFC 7518 section 3.4
        return False
    r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
    return True


def _verify_rsa(algorithm: str, key: rsa.RSAPublicKey, signature: bytes, data: bytes) -> None:
    digest = _RSA_HASHES.get(algorithm[2:])
    if digest is None or algorithm[:2] not in ("RS", "PS"):
        raise _does_not_fit(algorithm)
    if algorithm[:2] == "PS":  # RFC 7518 section 3.5: the salt is as long as the digest
        key.verify(signature, data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    else:
        key.verify(signature, data, padding.PKCS1v15(), digest)


def _verify_edwards(
    algorithm: str, jwk: Jwk, key: ed25519.Ed25519PublicKey | ed448.Ed448PublicKey, signature: bytes, data: bytes
) -> None:
    if jwk.curve not in _EDWARDS.get(algorithm, ()):
        raise _does_not_fit(algorithm)
    key.verify(signature, data)


def _does_not_fit(algorithm: str) -> BadSignatureAlgorithm:
    return BadSignatureAlgorithm(f'A key of this type does not sign with "{algorithm[:20]}".')


