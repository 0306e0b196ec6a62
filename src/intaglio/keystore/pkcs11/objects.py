"""Objects in a token: making, listing and destroying keys. Everything here takes a seat of a session."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11 import exceptions as ck
from pkcs11.types import Session

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, spki
from intaglio.core.errors import InvalidInput
from intaglio.keystore.pkcs11.mechanisms import KINDS, kind_of
from intaglio.keystore.pkcs11.token import Seat

#: Objects listed at most; a token with more is not one for people to look through.
MOST_OBJECTS = 10_000

_USAGES = ("SIGN", "VERIFY", "WRAP", "UNWRAP", "ENCRYPT", "DECRYPT", "DERIVE")
_CURVES = {parameters: kind.bits for kind in KINDS.values() for parameters in kind.parameters}
_CURVE_CLASSES: dict[int | None, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]] = {
    256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1,
}  # fmt: skip
#: What a private key of ours is in a token: it signs, and never leaves it.
SIGNING = {
    Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True, Attribute.DECRYPT: False, Attribute.UNWRAP: False, Attribute.DERIVE: False,
}  # fmt: skip
#: What its public key is.
VERIFYING = {
    Attribute.TOKEN: True, Attribute.PRIVATE: False, Attribute.VERIFY: True, Attribute.ENCRYPT: False,
    Attribute.WRAP: False,
}  # fmt: skip


@dataclass(frozen=True)
class Protection:
    """How a token guards a private key, as the token itself says; None where it does not say.

    ``local``: it was generated in the token. ``never_extractable`` and ``always_sensitive`` are true only for keys that
    were so from the beginning, which no imported key is. Source: PKCS #11 version 2.40 section 4.9.
    """

    sensitive: bool | None
    always_sensitive: bool | None
    extractable: bool | None
    never_extractable: bool | None
    local: bool | None

    def as_json(self) -> dict[str, bool | None]:
        return asdict(self)


@dataclass(frozen=True)
class TokenObject:
    """An object in a token. ``kind`` is private key, public key, secret key, certificate, data or other; ``bits`` the
    size of a key; ``id`` CKA_ID in hexadecimal; ``usage`` what a key may do."""

    kind: str
    type: str | None
    bits: int | None
    label: str
    id: str
    usage: tuple[str, ...]
    protection: Protection | None = None


# ---- making ----------------------------------------------------------------------------------------------------------


def generate(seat: Seat, algorithm: KeyAlgorithm, cka_id: bytes, label: str, *, decrypts: bool = False) -> bytes:
    """Generate a key pair that signs, with ``decrypts`` decrypts too, and never leaves the token; returns its
    SubjectPublicKeyInfo (DER).

    Safe to repeat: what an attempt of which the answer was lost may have made is removed first. Raises PKCS11Error.
    """
    destroy(seat, cka_id)
    kind = kind_of(algorithm)
    failure: Exception | None = None
    for parameters in kind.parameters or (None,):
        try:
            _generate(seat.session, algorithm, cka_id, label, parameters, decrypts)
            return public_key(seat, cka_id)
        except (ck.DomainParamsInvalid, ck.AttributeValueInvalid, ck.TemplateInconsistent) as error:
            failure = error  # the other way to name the curve
    assert failure is not None
    raise failure


def _generate(
    session: Session, algorithm: KeyAlgorithm, cka_id: bytes, label: str, parameters: bytes | None, decrypts: bool
) -> None:
    kind = kind_of(algorithm)
    capabilities = MechanismFlag.SIGN | MechanismFlag.VERIFY
    if decrypts:
        capabilities |= MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
    wanted: dict[str, Any] = {
        "id": cka_id, "label": label, "store": True, "mechanism": kind.generate,
        "capabilities": capabilities,
        "public_template": {**VERIFYING, Attribute.ENCRYPT: decrypts},
        "private_template": {**SIGNING, Attribute.DECRYPT: decrypts},
    }  # fmt: skip
    if parameters is None:
        session.generate_keypair(kind.key_type, kind.bits, **wanted)
        return
    domain = session.create_domain_parameters(kind.key_type, {Attribute.EC_PARAMS: parameters}, local=True)
    domain.generate_keypair(**wanted)


def destroy(seat: Seat, cka_id: bytes) -> int:
    """Destroy the private and the public key with this CKA_ID; returns how many objects there were."""
    seat.keys.pop(cka_id, None)
    destroyed = 0
    for object_class in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
        for found in _objects(seat.session, {Attribute.CLASS: object_class, Attribute.ID: cka_id}):
            found.destroy()
            destroyed += 1
    return destroyed


# ---- reading ---------------------------------------------------------------------------------------------------------


def public_key(seat: Seat, cka_id: bytes) -> bytes:
    """SubjectPublicKeyInfo (DER) of the key pair with this CKA_ID.

    Raises NoSuchKey, InvalidInput when the token does not tell the public key.
    """
    private = _objects(seat.session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: cka_id})
    public = _objects(seat.session, {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: cka_id})
    if not private:
        raise ck.NoSuchKey("no private key with this CKA_ID")
    for found in (*public, *private):
        if (known := _public_of(found)) is not None:
            return known
    raise InvalidInput(
        "The token does not tell the public key that belongs to this private key.", code="token-public-key-missing"
    )


def protection(seat: Seat, cka_id: bytes) -> Protection:
    """How the token guards a private key. Raises NoSuchKey."""
    found = _objects(seat.session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: cka_id})
    if not found:
        raise ck.NoSuchKey("no private key with this CKA_ID")
    return _protection(found[0])


def private_value(seat: Seat, cka_id: bytes) -> PrivateKey:
    """The private key itself, from a token that lets it out. Raises AttributeSensitive and NoSuchKey otherwise."""
    found = _objects(seat.session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: cka_id})
    if not found:
        raise ck.NoSuchKey("no private key with this CKA_ID")
    held = found[0]
    if held[Attribute.KEY_TYPE] == KeyType.RSA:
        n, e, d, p, q, dp, dq, qi = (
            int.from_bytes(held[name])
            for name in (
                Attribute.MODULUS, Attribute.PUBLIC_EXPONENT, Attribute.PRIVATE_EXPONENT, Attribute.PRIME_1,
                Attribute.PRIME_2, Attribute.EXPONENT_1, Attribute.EXPONENT_2, Attribute.COEFFICIENT,
            )
        )  # fmt: skip
        return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key()
    secret = held[Attribute.VALUE]
    if held[Attribute.KEY_TYPE] == KeyType.EC_EDWARDS:
        return ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    curve = _CURVE_CLASSES[_CURVES[held[Attribute.EC_PARAMS]]]()
    return ec.derive_private_key(int.from_bytes(secret), curve)


def everything(seat: Seat) -> list[TokenObject]:
    """All objects that the login shows, at most :data:`MOST_OBJECTS`."""
    found = []
    for each in _objects(seat.session, {}, MOST_OBJECTS):
        with contextlib.suppress(ck.ObjectHandleInvalid):  # deleted by somebody since the search
            found.append(_described(each))
    return found


def _objects(session: Session, template: Mapping[Attribute, Any], limit: int = 100) -> list[Any]:
    found: list[Any] = []
    iterator = cast(Any, session.get_objects(dict(template)))
    with contextlib.closing(iterator):
        for each in iterator:
            found.append(each)
            if len(found) >= limit:
                break
    return found


def _described(found: Any) -> TokenObject:
    object_class = _read(found, Attribute.CLASS)
    kind = object_class.name.lower().replace("_", " ") if isinstance(object_class, ObjectClass) else "other"
    key_type = _read(found, Attribute.KEY_TYPE)
    bits = _bits(found)
    return TokenObject(
        kind=kind,
        type=_type_name(key_type, bits),
        bits=bits,
        label=_read(found, Attribute.LABEL) or "",
        id=(_read(found, Attribute.ID) or b"").hex(),
        usage=tuple(name.lower() for name in _USAGES if _read(found, Attribute[name])),
        protection=_protection(found) if object_class is ObjectClass.PRIVATE_KEY else None,
    )


def _type_name(key_type: Any, bits: int | None) -> str | None:
    if key_type is None:
        return None
    for algorithm, kind in KINDS.items():
        if (kind.key_type, kind.bits) == (key_type, bits):
            return algorithm.value
    return key_type.name.lower().replace("_", "-") if isinstance(key_type, KeyType) else str(key_type)


def _bits(found: Any) -> int | None:
    if modulus := _read(found, Attribute.MODULUS):
        return int.from_bytes(modulus).bit_length()
    if (parameters := _read(found, Attribute.EC_PARAMS)) is not None:
        return _CURVES.get(parameters)
    length = _read(found, Attribute.VALUE_LEN)
    return length * 8 if length else None


def _protection(found: Any) -> Protection:
    return Protection(
        *(
            _read(found, name)
            for name in (
                Attribute.SENSITIVE, Attribute.ALWAYS_SENSITIVE, Attribute.EXTRACTABLE, Attribute.NEVER_EXTRACTABLE,
                Attribute.LOCAL,
            )
        )
    )  # fmt: skip


def _public_of(found: Any) -> bytes | None:
    """SubjectPublicKeyInfo of a public or private object, where its attributes tell it."""
    modulus, exponent = _read(found, Attribute.MODULUS), _read(found, Attribute.PUBLIC_EXPONENT)
    if modulus and exponent:
        return spki(rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key())
    parameters, point = _read(found, Attribute.EC_PARAMS), _read(found, Attribute.EC_POINT)
    if not parameters or not point:
        return None
    bits = _CURVES.get(parameters)
    for encoded in _points(point):
        with contextlib.suppress(ValueError):
            if bits == 255:
                return spki(ed25519.Ed25519PublicKey.from_public_bytes(encoded))
            if bits in _CURVE_CLASSES:
                return spki(ec.EllipticCurvePublicKey.from_encoded_point(_CURVE_CLASSES[bits](), encoded))
    return None


def _points(point: bytes) -> Iterator[bytes]:
    """CKA_EC_POINT is an OCTET STRING around the point; some libraries give the point itself, some a BIT STRING."""
    with contextlib.suppress(InvalidInput):
        element = der.read_tlv(point)
        if element.tag == der.OCTET_STRING:
            yield element.content
        elif element.tag == der.BIT_STRING:
            yield element.content[1:]
    yield point


def _read(found: Any, name: Attribute) -> Any:
    """An attribute, None where the object has none or the token does not tell."""
    try:
        return found[name]
    except (ck.AttributeTypeInvalid, ck.AttributeSensitive, ck.FunctionFailed, KeyError, ValueError):
        return None

