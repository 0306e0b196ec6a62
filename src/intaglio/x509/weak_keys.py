"""Refuses public keys whose private key others can compute.

RSA: the public exponent (NIST SP 800-56B section 6.4.1.1), small factors, close primes (Fermat's method), and the ROCA
fingerprint (CVE-2017-15361; M. Nemec et al., "The Return of Coppersmith's Attack", ACM CCS 2017, section 2.3). Elliptic
curve points are checked to be on their curve when the key is loaded, and other algorithms have no known weak classes,
so both cost nothing here.

The keys of CVE-2008-0166 (Debian's predictable random numbers) are not looked up: the published lists are large
downloads that no installable Python or Debian package carries, and a request for such a key would have to be made with
an OpenSSL of 2006 to 2008.
"""

from __future__ import annotations

import math

from cryptography.hazmat.primitives.asymmetric import rsa

from intaglio.core.errors import InvalidInput

_SMALLEST_EXPONENT = 65_537
_SMALLEST_LEGAL_EXPONENT = 3  # RFC 8017 section 3.1
_LONGEST_EXPONENT_BITS = 256
_SMALL_PRIME_LIMIT = 2_000
_FERMAT_STEPS = 100


def check_public_key(key: object, *, small_exponent: bool = False) -> None:
    """Raise InvalidInput (``weak-key``) naming the weakness when ``key`` is a weak public key.

    ``small_exponent`` takes any legal RSA exponent from 3 on. A small one gives nobody the private key; it only makes
    mistakes of those who pad or verify worse. So it is not for new keys, but no reason to distrust an old root.
    """
    if not isinstance(key, rsa.RSAPublicKey):
        return
    numbers = key.public_numbers()
    check_rsa(numbers.n, numbers.e, small_exponent=small_exponent)


def check_rsa(modulus: int, exponent: int, *, small_exponent: bool = False) -> None:
    """Raise InvalidInput (``weak-key``) for an RSA key with a known weakness. Costs about a tenth of a millisecond."""
    smallest = _SMALLEST_LEGAL_EXPONENT if small_exponent else _SMALLEST_EXPONENT
    if exponent % 2 == 0 or exponent < smallest or exponent.bit_length() > _LONGEST_EXPONENT_BITS:
        raise _weak(f"its public exponent {_short(exponent)} is not an odd number from {smallest} below 2^256")
    if math.gcd(modulus, _SMALL_PRIMES_PRODUCT) != 1:
        raise _weak("its modulus has a small factor")
    if has_close_primes(modulus):
        raise _weak("its two primes are too close together (Fermat's method factors it)")
    if has_roca_fingerprint(modulus):
        raise _weak("it was made by the Infineon library of CVE-2017-15361 (ROCA)")


def has_close_primes(modulus: int, steps: int = _FERMAT_STEPS) -> bool:
    """Whether Fermat's method finds the factors of an odd ``modulus`` within ``steps`` steps."""
    a = math.isqrt(modulus - 1) + 1
    remainder, growth = a * a - modulus, 2 * a + 1
    for _ in range(steps):
        # A root costs ten times as much as to see that most numbers cannot be squares.
        if remainder & 63 in _SQUARES_MODULO_64 and remainder % 3465 in _SQUARES_MODULO_3465:
            root = math.isqrt(remainder)
            if root * root == remainder:
                return True
        remainder += growth
        growth += 2
    return False


def has_roca_fingerprint(modulus: int) -> bool:
    """Whether ``modulus`` is a power of 65537 modulo each of the first 38 odd primes up to 167.

    Primes of the faulty library are k*M + 65537^a mod M with M a product of the first primes, hence so is the modulus.
    By chance that happens to one modulus in about 2^28.
    """
    return all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES)


def _primes(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1))]


def _short(number: int) -> str:
    return str(number) if number.bit_length() <= 64 else f"of {number.bit_length()} bits"


def _weak(why: str) -> InvalidInput:
    return InvalidInput(
        f"The RSA key is weak: {why}.", code="weak-key", remedy="Generate a new key pair with current software."
    )


_SQUARES_MODULO_64 = frozenset(n * n % 64 for n in range(64))
_SQUARES_MODULO_3465 = frozenset(n * n % 3465 for n in range(3465))
_SMALL_PRIMES_PRODUCT = math.prod(_primes(_SMALL_PRIME_LIMIT))
_ROCA_RESIDUES = [(p, frozenset(pow(65_537, i, p) for i in range(p))) for p in _primes(168)[1:]]
