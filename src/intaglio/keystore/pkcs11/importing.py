"""Bringing a private key into a token: as an object made of its parts, or wrapped, for tokens that take no open keys.

A wrapped key travels under an AES key that exists for one session only. Sources: PKCS #11 version 2.40, section 5.7
(C_CreateObject) and 5.14 (C_UnwrapKey); RFC 5649 (AES key wrap with padding).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11 import exceptions as ck
from pkcs11.constants import DEFAULT
from pkcs11.types import Session

from intaglio.asn1 import der
from intaglio.asn1.algorithms import PrivateKey, key_algorithm_of
from intaglio.core.errors import NotSupported
from intaglio.keystore.pkcs11 import objects
from intaglio.keystore.pkcs11.errors import PERMANENT
from intaglio.keystore.pkcs11.mechanisms import EDWARDS_PARAMETERS, kind_of
from intaglio.keystore.pkcs11.token import Seat

_AES_OCTETS = 32
#: What tokens say to a way of bringing in a key that they do not like.
_REFUSALS: tuple[type[Exception], ...] = (*PERMANENT, ck.FunctionRejected, ck.GeneralError, ck.FunctionFailed)


def import_key(seat: Seat, key: PrivateKey, cka_id: bytes, label: str) -> None:
    """Put a private key and its public key into the token, to sign there and not to leave it again.

    Safe to repeat. Raises NotSupported (``key-algorithm-not-in-tokens``), PKCS11Error when the token takes it in no
    way.
    """
    objects.destroy(seat, cka_id)
    private, public = components(key)
    common = {Attribute.ID: cka_id, Attribute.LABEL: label}
    seat.session.create_object({
        Attribute.CLASS: ObjectClass.PUBLIC_KEY, **objects.VERIFYING, **common, **public,
    })  # fmt: skip
    ways: tuple[Callable[[Session, PrivateKey, dict[Attribute, Any]], None], ...] = (
        lambda session, _, template: _create(session, {**template, **private}),
        _unwrap_what_we_wrapped,
        _unwrap_what_the_token_encrypted,
    )
    refused: Exception | None = None
    for way in ways:
        try:
            way(seat.session, key, {**objects.SIGNING, **common})
            return
        except _REFUSALS as error:
            refused = refused or error
    assert refused is not None
    raise refused


def components(key: PrivateKey) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:
    """The attributes of the private and of the public object that make up the key."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        public = {
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.MODULUS: _octets(numbers.public_numbers.n),
            Attribute.PUBLIC_EXPONENT: _octets(numbers.public_numbers.e),
        }
        values = {
            Attribute.PRIVATE_EXPONENT: numbers.d, Attribute.PRIME_1: numbers.p, Attribute.PRIME_2: numbers.q,
            Attribute.EXPONENT_1: numbers.dmp1, Attribute.EXPONENT_2: numbers.dmq1, Attribute.COEFFICIENT: numbers.iqmp,
        }  # fmt: skip
        return {**public, **{name: _octets(value) for name, value in values.items()}}, public
    if isinstance(key, ec.EllipticCurvePrivateKey):
        [parameters] = kind_of(key_algorithm_of(key)).parameters
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        secret = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)
        shared = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: parameters}
        return {**shared, Attribute.VALUE: secret}, {**shared, Attribute.EC_POINT: der.octet_string(point)}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        point = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        shared = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.EC_PARAMS: EDWARDS_PARAMETERS[0]}
        return {**shared, Attribute.VALUE: secret}, {**shared, Attribute.EC_POINT: der.octet_string(point)}
    raise NotSupported("Tokens have no keys of this type.", code="key-algorithm-not-in-tokens")


def _create(session: Session, attributes: dict[Attribute, Any]) -> None:
    session.create_object({Attribute.CLASS: ObjectClass.PRIVATE_KEY, **attributes})


def _unwrap_what_the_token_encrypted(session: Session, key: PrivateKey, template: dict[Attribute, Any]) -> None:
    """The wrapping key is made in the token, which encrypts with it what it then unwraps: for tokens that take no key
    at all that somebody knows."""
    flags = MechanismFlag.ENCRYPT | MechanismFlag.UNWRAP
    wrapping: Any = session.generate_key(KeyType.AES, _AES_OCTETS * 8, store=False, capabilities=flags)
    vector = os.urandom(16)
    chosen = {"mechanism": Mechanism.AES_CBC_PAD, "mechanism_param": vector}
    _unwrap(wrapping, key, wrapping.encrypt(_pkcs8(key), **chosen), template, chosen)


def _unwrap_what_we_wrapped(session: Session, key: PrivateKey, template: dict[Attribute, Any]) -> None:
    """The wrapping key is made here and given to the token."""
    secret = os.urandom(_AES_OCTETS)
    wrapping = session.create_object({
        Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.VALUE: secret,
        Attribute.TOKEN: False, Attribute.UNWRAP: True,
    })  # fmt: skip
    wrapped = aes_key_wrap_with_padding(secret, _pkcs8(key))
    _unwrap(wrapping, key, wrapped, template, {"mechanism": Mechanism.AES_KEY_WRAP_PAD})


def _unwrap(
    wrapping: Any, key: PrivateKey, wrapped: bytes, template: dict[Attribute, Any], chosen: dict[str, Any]
) -> None:
    kind = kind_of(key_algorithm_of(key))
    wanted = {name: value for name, value in template.items() if name not in (Attribute.ID, Attribute.LABEL)}
    # The wrapper asks for what only public and secret keys can do, too.
    wanted |= dict.fromkeys((Attribute.ENCRYPT, Attribute.WRAP, Attribute.VERIFY), DEFAULT)
    wrapping.unwrap_key(
        ObjectClass.PRIVATE_KEY, kind.key_type, wrapped, id=template[Attribute.ID], label=template[Attribute.LABEL],
        store=True, capabilities=MechanismFlag.SIGN, template=wanted, **chosen,
    )  # fmt: skip
    wrapping.destroy()


def _pkcs8(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _octets(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8)
