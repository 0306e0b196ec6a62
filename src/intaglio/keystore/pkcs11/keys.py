"""Private keys in a token as ``cryptography`` knows private keys: its builders, and ours, sign with them unchanged.

The object holds no key, only the token, the key's CKA_ID and the public key. Signing blocks until the token answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from pkcs11 import Mechanism
from pkcs11 import exceptions as ck

from intaglio.asn1.algorithms import PrivateKey, PublicKey, load_public_key
from intaglio.core.errors import NotSupported, Unavailable
from intaglio.keystore.pkcs11 import mechanisms
from intaglio.keystore.pkcs11.mechanisms import Hash, Order
from intaglio.keystore.pkcs11.token import Seat, Token
from intaglio.keystore.pkcs11.verification import verifies


class _Held:
    """What the keys of all kinds have in common."""

    def __init__(self, token: Token, cka_id: bytes, public: Any) -> None:
        self._token = token
        self._cka_id = cka_id
        self._public = public

    def public_key(self) -> Any:
        return self._public

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise self._stays()

    def private_numbers(self) -> NoReturn:
        raise self._stays()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._token.name}, {self._cka_id.hex()})"

    def _signature(self, make: Callable[[frozenset[int]], Order], encode: Callable[[bytes], bytes] = bytes) -> bytes:
        """Have the token sign what ``make`` orders of a token with these mechanisms; ``encode`` gives the answer its
        usual form.

        The first signature on every session has to verify, so that another key under the same id, or a token that
        answers nonsense, is found out before anybody relies on it.
        """

        token, cka_id = self._token, self._cka_id

        def sign(seat: Seat) -> bytes:
            order = make(token.mechanisms)
            signature = encode(seat.sign(cka_id, order.mechanism, order.data, order.pss))
            if cka_id not in seat.proved:
                self._prove(order, signature)
                seat.proved.add(cka_id)
            return signature

        return token.run(sign)

    def _prove(self, order: Order, signature: bytes) -> None:
        if not verifies(self._public, order, signature):
            raise Unavailable(
                f'The key in the token "{self._token.name}" is not the one of this public key.',
                code="token-answer-wrong",
                remedy="Is it the right token? See: intaglio hsm objects.",
            )

    def _stays(self) -> NotSupported:
        return NotSupported(f'Keys in the token "{self._token.name}" never leave it.', code="key-not-exportable")


class EllipticCurveKey(_Held, ec.EllipticCurvePrivateKey):
    """An ECDSA key in a token."""

    _public: ec.EllipticCurvePublicKey

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        content, algorithm, bits = bytes(data), signature_algorithm.algorithm, self._public.key_size
        return self._signature(
            lambda able: mechanisms.ecdsa(content, algorithm, able), lambda raw: mechanisms.ecdsa_to_der(raw, bits)
        )

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        raise NotSupported("Keys in tokens are for signing.", code="token-not-capable")


class RsaKey(_Held, rsa.RSAPrivateKey):
    """An RSA key in a token."""

    _public: rsa.RSAPublicKey

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: Any, padding: AsymmetricPadding, algorithm: Hash | NoDigestInfo) -> bytes:
        if isinstance(algorithm, NoDigestInfo):
            raise NotSupported("Keys in tokens sign named hashes only.", code="token-not-capable")
        content, named, public = bytes(data), algorithm, self._public
        return self._signature(lambda able: mechanisms.rsa(content, padding, named, public, able))

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> bytes:
        """Only for keys that were made to decrypt, and PKCS #1 v1.5. Raises ValueError when it is not decryptable."""
        if not isinstance(padding, PKCS1v15):
            raise NotSupported("Tokens decrypt with PKCS #1 v1.5 padding only.", code="token-not-capable")
        token, cka_id, size = self._token, self._cka_id, (self.key_size + 7) // 8
        if len(ciphertext) != size or int.from_bytes(ciphertext) >= self._public.public_numbers().n:
            raise ValueError("decryption failed")

        def opened(seat: Seat) -> bytes | None:
            if not token.mechanisms or mechanisms.RAW_RSA in token.mechanisms:
                return mechanisms.unpadded(seat.decrypt(cka_id, mechanisms.RAW_RSA, ciphertext), size)
            try:
                return seat.decrypt(cka_id, Mechanism.RSA_PKCS, ciphertext)
            except (ck.EncryptedDataInvalid, ck.EncryptedDataLenRange):
                return None

        found = token.run(opened)
        if found is None:
            raise ValueError("decryption failed")
        return found


class Ed25519Key(_Held, ed25519.Ed25519PrivateKey):
    """An Ed25519 key in a token."""

    _public: ed25519.Ed25519PublicKey

    def sign(self, data: Any) -> bytes:
        order = Order(Mechanism.EDDSA, bytes(data))
        return self._signature(lambda able: order)

    def private_bytes_raw(self) -> bytes:
        raise self._stays()


def private_key(token: Token, cka_id: bytes, spki: bytes) -> PrivateKey:
    """The key with this CKA_ID and SubjectPublicKeyInfo (DER). Does not ask the token; signing does."""
    public: PublicKey = load_public_key(spki)[0]
    if isinstance(public, ec.EllipticCurvePublicKey):
        return EllipticCurveKey(token, cka_id, public)
    if isinstance(public, rsa.RSAPublicKey):
        return RsaKey(token, cka_id, public)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Ed25519Key(token, cka_id, public)
    raise NotSupported("Tokens have no keys of this type.", code="key-algorithm-not-in-tokens")
