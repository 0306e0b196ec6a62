"""Keys that others can break are recognized; ordinary keys never are."""

import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from intaglio.core.errors import InvalidInput
from intaglio.x509 import weak_keys


def _probable_prime(rng: random.Random, bits: int) -> int:
    while True:
        candidate = rng.getrandbits(bits) | 1 << bits - 1 | 1 << bits - 2 | 1
        if _is_prime(candidate):
            return candidate


def _is_prime(number: int) -> bool:
    return all(number % p for p in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)) and all(
        pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7)
    )


def _next_prime(number: int) -> int:
    number += 1 + number % 2
    while not _is_prime(number):
        number += 2
    return number


def _roca_prime(rng: random.Random, bits: int) -> int:
    """k * M + 65537^a mod M, the shape of the primes of CVE-2017-15361, with M the product of the primes to 167."""
    primorial = math.prod(p for p in range(2, 168) if all(p % d for d in range(2, p)))
    while True:
        k = rng.getrandbits(bits - primorial.bit_length())
        candidate = k * primorial + pow(65_537, rng.getrandbits(64), primorial)
        if _is_prime(candidate):
            return candidate


def _reason(modulus: int, exponent: int = 65_537) -> str:
    with pytest.raises(InvalidInput) as caught:
        weak_keys.check_rsa(modulus, exponent)
    assert caught.value.code == "weak-key"
    return caught.value.detail


def test_ordinary_keys_pass(rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey) -> None:
    assert not weak_keys.has_close_primes(rsa_key.public_key().public_numbers().n)
    assert not weak_keys.has_roca_fingerprint(rsa_key.public_key().public_numbers().n)
    weak_keys.check_public_key(rsa_key.public_key())
    weak_keys.check_public_key(ec_key.public_key())


@pytest.mark.parametrize("exponent", [1, 2, 3, 17, 65_535, 65_536, 65_538, (1 << 256) + 1])
def test_exponents_outside_the_policy_are_weak(rsa_key: rsa.RSAPrivateKey, exponent: int) -> None:
    assert "public exponent" in _reason(rsa_key.public_key().public_numbers().n, exponent)


def test_close_primes_are_weak() -> None:
    p = _probable_prime(random.Random(1), 1024)
    assert "too close" in _reason(p * _next_prime(p))


def test_the_roca_fingerprint_is_weak() -> None:
    rng = random.Random(2)
    assert "ROCA" in _reason(_roca_prime(rng, 1024) * _roca_prime(rng, 1024))


def test_one_roca_prime_alone_is_no_fingerprint() -> None:
    rng = random.Random(3)
    assert not weak_keys.has_roca_fingerprint(_roca_prime(rng, 1024) * _probable_prime(rng, 1024))


def test_a_small_factor_is_weak() -> None:
    mersenne_prime = (1 << 2203) - 1
    assert "small factor" in _reason(1_999 * mersenne_prime)
    assert "small factor" in _reason(2 * mersenne_prime)


def test_random_moduli_have_no_roca_fingerprint() -> None:
    rng = random.Random(5)
    assert not any(weak_keys.has_roca_fingerprint(rng.getrandbits(2048) | 1) for _ in range(2_000))
