"""Whether a signature that a token made is right, judged without the token."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from pkcs11 import Mechanism

from intaglio.asn1.algorithms import PublicKey
from intaglio.keystore.pkcs11.mechanisms import Order, digest_info

_BY_MECHANISM: dict[Mechanism, hashes.HashAlgorithm] = {
    Mechanism.SHA256_RSA_PKCS: hashes.SHA256(), Mechanism.SHA384_RSA_PKCS: hashes.SHA384(),
    Mechanism.SHA512_RSA_PKCS: hashes.SHA512(), Mechanism.ECDSA_SHA256: hashes.SHA256(),
    Mechanism.ECDSA_SHA384: hashes.SHA384(), Mechanism.ECDSA_SHA512: hashes.SHA512(),
}  # fmt: skip
_BY_LENGTH: dict[int, hashes.HashAlgorithm] = {
    32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512(), 20: hashes.SHA1(), 28: hashes.SHA224(),  # noqa: S303
}  # fmt: skip
_NAMES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


def verifies(public: PublicKey, order: Order, signature: bytes) -> bool:
    """Whether ``signature`` (DER for ECDSA) is what ``order`` asked for under this public key."""
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, order.data, ec.ECDSA(_hash(order)))
        elif isinstance(public, rsa.RSAPublicKey):
            _verify_rsa(public, order, signature)
        elif isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, order.data)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _verify_rsa(public: rsa.RSAPublicKey, order: Order, signature: bytes) -> None:
    if order.pss is not None:
        hash_algorithm = _by_length(order.data)
        scheme = padding.PSS(padding.MGF1(hash_algorithm), order.pss[2])
        public.verify(signature, order.data, scheme, Prehashed(hash_algorithm))
    elif order.mechanism is Mechanism.RSA_PKCS:
        for name, hash_algorithm in _NAMES.items():
            digest = order.data[-hash_algorithm.digest_size :]
            if digest_info(name, digest) == order.data:
                public.verify(signature, digest, padding.PKCS1v15(), Prehashed(hash_algorithm))
                return
        raise InvalidSignature
    else:
        public.verify(signature, order.data, padding.PKCS1v15(), _BY_MECHANISM[order.mechanism])


def _hash(order: Order) -> hashes.HashAlgorithm | Prehashed:
    known = _BY_MECHANISM.get(order.mechanism)
    return known if known is not None else Prehashed(_by_length(order.data))


def _by_length(digest: bytes) -> hashes.HashAlgorithm:
    return _BY_LENGTH[len(digest)]
