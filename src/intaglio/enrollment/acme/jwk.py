"""Public keys as JSON Web Keys: read strictly, named by their thumbprint.

Sources: RFC 7517, RFC 7518 section 6, RFC 7638 (thumbprints), RFC 8037 (Edwards curves).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from intaglio.core.errors import InvalidInput
from intaglio.enrollment.acme.errors import BadPublicKey, Malformed
from intaglio.enrollment.acme.strict_json import decode_base64url, encode_base64url
from intaglio.x509 import weak_keys

AccountKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_EDWARDS: Final[Mapping[str, tuple[type[ed25519.Ed25519PublicKey] | type[ed448.Ed448PublicKey], int]]] = {
    "Ed25519": (ed25519.Ed25519PublicKey, 32),
    "Ed448": (ed448.Ed448PublicKey, 57),
}
_RSA_BITS: Final = range(2048, 8193)
_LONGEST_MEMBER: Final = 1400  # characters of a modulus of 8192 bits
#: Members that only private and symmetric keys have (RFC 7518 sections 6.2.2, 6.3.2, 6.4).
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
}


@dataclass(frozen=True)
class Jwk:
    """A public key. ``members`` are those the thumbprint is over; ``thumbprint`` is 32 octets (SHA-256)."""

    members: Mapping[str, str]
    key: AccountKey = field(repr=False, compare=False)
    thumbprint: bytes

    @property
    def curve(self) -> str | None:
        return self.members.get("crv")

    @property
    def thumbprint_text(self) -> str:
        """The thumbprint as it stands in key authorizations (RFC 8555 section 8.1)."""
        return encode_base64url(self.thumbprint)


def read_jwk(value: Any) -> Jwk:
    """A public key from JSON. Raises Malformed, and BadPublicKey for a key that is weak, private or of another type."""
    if not isinstance(value, dict):
        raise Malformed("The jwk is not a JSON object.")
    if _PRIVATE & value.keys():
        raise BadPublicKey(
            "The jwk holds a private or secret key.", remedy="Make a new key: this one was sent, and never send one."
        )
    required = _REQUIRED.get(str(value.get("kty")))
    if required is None:
        raise BadPublicKey("The key is of a type that is not accepted.", remedy="Use RSA, EC or OKP.")
    members = {name: value.get(name) for name in required}
    if not all(isinstance(text, str) and 0 < len(text) <= _LONGEST_MEMBER for text in members.values()):
        raise Malformed(f"A jwk of the type {members['kty']} has the strings {', '.join(required)}.")
    return known_jwk(json.dumps(members, sort_keys=True, separators=(",", ":")))


@functools.lru_cache(maxsize=512)
def known_jwk(text: str) -> Jwk:
    """The key whose required members are the JSON ``text``, as it is hashed for the thumbprint. Raises like
    :func:`read_jwk`."""
    members: dict[str, str] = json.loads(text)
    return Jwk(members, _load(members), hashlib.sha256(text.encode()).digest())


def canonical(jwk: Jwk) -> str:
    """What :func:`known_jwk` reads: how a key is stored."""
    return json.dumps(dict(jwk.members), sort_keys=True, separators=(",", ":"))


def jwk_of(key: object) -> Jwk | None:
    """The JWK of a public key, None for a type that accounts cannot have."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        members = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
    elif isinstance(key, ec.EllipticCurvePublicKey):
        name = next((name for name, curve in _CURVES.items() if curve.name == key.curve.name), None)
        if name is None:
            return None
        point, size = key.public_numbers(), (key.key_size + 7) // 8
        x, y = (encode_base64url(number.to_bytes(size, "big")) for number in (point.x, point.y))
        members = {"crv": name, "kty": "EC", "x": x, "y": y}
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        name = next(name for name, (kind, _) in _EDWARDS.items() if isinstance(key, kind))
        members = {"crv": name, "kty": "OKP", "x": encode_base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    else:
        return None
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return Jwk(members, key, hashlib.sha256(text.encode()).digest())


def _load(members: Mapping[str, str]) -> AccountKey:
    match members["kty"]:
        case "EC":
            return _load_ec(members)
        case "OKP":
            return _load_edwards(members)
        case _:
            return _load_rsa(members)


def _load_ec(members: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(members["crv"])
    if curve is None:
        raise BadPublicKey(f'The curve "{members["crv"][:20]}" is not accepted.', remedy="Use P-256, P-384 or P-521.")
    size = (curve.key_size + 7) // 8
    x, y = (decode_base64url(members[name], f'"{name}" of the jwk') for name in ("x", "y"))
    if len(x) != size or len(y) != size:
        raise Malformed(f"Coordinates on {members['crv']} have {size} octets (RFC 7518 section 6.2.1.2).")
    try:
        return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
    except ValueError:
        raise BadPublicKey("The key is no point on its curve.") from None


def _load_edwards(members: Mapping[str, str]) -> ed25519.Ed25519PublicKey | ed448.Ed448PublicKey:
    found = _EDWARDS.get(members["crv"])
    if found is None:
        raise BadPublicKey(f'The curve "{members["crv"][:20]}" is not accepted.', remedy="Use Ed25519 or Ed448.")
    kind, size = found
    octets = decode_base64url(members["x"], '"x" of the jwk')
    if len(octets) != size:
        raise Malformed(f"A key on {members['crv']} has {size} octets (RFC 8037 section 2).")
    try:
        return kind.from_public_bytes(octets)
    except ValueError:
        raise BadPublicKey("The key is no point on its curve.") from None


def _load_rsa(members: Mapping[str, str]) -> rsa.RSAPublicKey:
    n, e = (decode_base64url(members[name], f'"{name}" of the jwk') for name in ("n", "e"))
    if n[:1] == b"\0" or e[:1] == b"\0":
        raise Malformed("Numbers of an RSA key begin without zero octets (RFC 7518 section 2).")
    modulus, exponent = int.from_bytes(n, "big"), int.from_bytes(e, "big")
    if modulus.bit_length() not in _RSA_BITS:
        raise BadPublicKey(
            f"An RSA key of {modulus.bit_length()} bits is not accepted.", remedy="Use 2048 to 8192 bits."
        )
    try:
        weak_keys.check_rsa(modulus, exponent)
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except InvalidInput as error:
        raise BadPublicKey(error.detail, remedy=error.remedy) from None
    except ValueError:
        raise BadPublicKey("The RSA key is malformed.") from None


def _number(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
