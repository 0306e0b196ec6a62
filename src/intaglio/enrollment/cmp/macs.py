"""Message authentication codes under a shared secret: PasswordBasedMac and PBMAC1.

Sources: RFC 9810 section 5.1.3.1, RFC 9481 section 6.1, RFC 8018 section 7.1 and appendix A.5, RFC 9579.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, Literal

from intaglio.asn1 import der
from intaglio.asn1.cmp import Failure
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.options import CmpOptions

PASSWORD_BASED_MAC: Final = "1.2.840.113533.7.66.13"  # noqa: S105 - an algorithm
PBMAC1: Final = "1.2.840.113549.1.5.14"
_PBKDF2: Final = "1.2.840.113549.1.5.12"
#: From so many iterations on, a key is made in a thread, and whoever asks is metered.
COSTLY_ITERATIONS: Final = 2_000
_SALT_OCTETS: Final = 16
_LONGEST_SALT: Final = 128
#: The sender says how long the derived key is. One that can be guessed would let anybody make a MAC that is right, so
#: no option lowers this.
_SHORTEST_KEY: Final = 20
_LONGEST_KEY: Final = 64

_DIGESTS: Final = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_MACS: Final = {
    "1.3.6.1.5.5.8.1.2": "sha1",
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}


@dataclass(frozen=True)
class MacAlgorithm:
    """A MAC with all its parameters. ``derivation`` and ``mac`` are AlgorithmIdentifiers without the salt's owner:
    of the one-way function or of the PRF, and of the MAC. ``key_octets`` is what PBMAC1 derives."""

    kind: Literal["pbm", "pbmac1"]
    salt: bytes = field(repr=False)
    iterations: int
    derivation: bytes
    derivation_hash: str
    mac: bytes
    mac_hash: str
    key_octets: int = 0

    @property
    def identifier(self) -> bytes:
        """The AlgorithmIdentifier that names it."""
        if self.kind == "pbm":
            parameters = der.sequence(
                der.octet_string(self.salt), self.derivation, der.integer(self.iterations), self.mac
            )
            return der.sequence(der.oid(PASSWORD_BASED_MAC), parameters)
        derivation = der.sequence(
            der.octet_string(self.salt),
            der.integer(self.iterations),
            der.integer(self.key_octets),
            b"" if self.derivation_hash == "sha1" else self.derivation,
        )
        return der.sequence(
            der.oid(PBMAC1), der.sequence(der.sequence(der.oid(_PBKDF2), derivation), self.mac)
        )

    @property
    def is_costly(self) -> bool:
        """Whether deriving its key takes long enough to belong in a thread."""
        return self.iterations > COSTLY_ITERATIONS

    def compute(self, secret: bytes, data: bytes) -> bytes:
        """The MAC of ``data`` under a secret; takes about a millisecond per 2,000 iterations."""
        return self.under(secret).code(data)

    def under(self, secret: bytes) -> Mac:
        """The MAC with the key that a secret gives; that is what takes the time."""
        return Mac(self.identifier, self.mac_hash, self._key(secret))

    def _key(self, secret: bytes) -> bytes:
        if self.kind == "pbmac1":
            return hashlib.pbkdf2_hmac(self.derivation_hash, secret, self.salt, self.iterations, self.key_octets)
        key, digest = secret + self.salt, getattr(hashlib, self.derivation_hash)
        for _ in range(self.iterations):
            key = digest(key).digest()
        return key


@dataclass(frozen=True)
class Mac:
    """A MAC with its key. It protects a question and its answer: another salt for the answer would double the time of
    both, and not make guessing the secret any harder for whoever sees the question."""

    identifier: bytes
    hash_name: str
    key: bytes = field(repr=False)

    def code(self, data: bytes) -> bytes:
        """The MAC of ``data``."""
        return hmac.digest(self.key, data, self.hash_name)


def password_based_mac(*, iterations: int = 1_000, digest: str = "sha256", mac: str = "sha256") -> MacAlgorithm:
    """A PasswordBasedMac with a fresh salt."""
    return MacAlgorithm(
        "pbm", secrets.token_bytes(_SALT_OCTETS), iterations, _named(_DIGESTS, digest), digest, _named(_MACS, mac), mac
    )


def pbmac1(*, iterations: int = 10_000, digest: str = "sha256", mac: str = "sha256") -> MacAlgorithm:
    """A PBMAC1 with a fresh salt."""
    return MacAlgorithm(
        "pbmac1", secrets.token_bytes(_SALT_OCTETS), iterations, _named(_MACS, digest), digest, _named(_MACS, mac), mac,
        hashlib.new(mac).digest_size,
    )  # fmt: skip


def is_mac_algorithm(identifier: bytes) -> bool:
    """Whether an AlgorithmIdentifier is one of a MAC under a shared secret."""
    return _split(identifier)[0] in (PASSWORD_BASED_MAC, PBMAC1)


def read_mac(options: CmpOptions, identifier: bytes) -> MacAlgorithm:
    """The MAC that an AlgorithmIdentifier names, within what the endpoint admits.

    Raises CmpRefusal (badAlg), InvalidInput (``invalid-der``).
    """
    oid, parameters = _split(identifier)
    found = _read_password_based(parameters) if oid == PASSWORD_BASED_MAC else _read_pbmac1(parameters)
    _require_admitted(options, found)
    return found


def _read_password_based(parameters: bytes) -> MacAlgorithm:
    reader = der.Reader(parameters).enter()
    salt, digest = reader.read(der.OCTET_STRING).content, reader.read(der.SEQUENCE).der
    iterations, mac = der.decode_integer(reader.read(der.INTEGER).content), reader.read(der.SEQUENCE).der
    reader.finish()
    return MacAlgorithm(
        "pbm", _salt(salt), iterations, digest, _hash(digest, _DIGESTS, "one-way function"), mac, _hash(mac, _MACS)
    )


def _read_pbmac1(parameters: bytes) -> MacAlgorithm:
    reader = der.Reader(parameters).enter()
    derivation, mac = reader.read(der.SEQUENCE).der, reader.read(der.SEQUENCE).der
    reader.finish()
    oid, inner = _split(derivation)
    if oid != _PBKDF2:
        raise _unknown(f"key derivation {oid}")
    fields = der.Reader(inner).enter()
    salt, iterations = fields.read(der.OCTET_STRING).content, der.decode_integer(fields.read(der.INTEGER).content)
    length, prf = fields.optional(der.INTEGER), fields.optional(der.SEQUENCE)
    fields.finish()
    mac_hash = _hash(mac, _MACS)
    # RFC 9579 section 4 wants the length; without it, a key as long as the MAC is what everybody means.
    octets = hashlib.new(mac_hash).digest_size if length is None else der.decode_integer(length.content)
    if not _SHORTEST_KEY <= octets <= _LONGEST_KEY:
        raise _unknown(f"key of {octets} octets")
    function = _named(_MACS, "sha1") if prf is None else prf.der
    prf_hash = _hash(function, _MACS, "pseudorandom function")
    return MacAlgorithm("pbmac1", _salt(salt), iterations, function, prf_hash, mac, mac_hash, octets)


def _require_admitted(options: CmpOptions, found: MacAlgorithm) -> None:
    low, high = options.mac_iterations
    if found.iterations > high or found.iterations < 1:
        # However weak an endpoint wants to be: this bound is what keeps a stranger from costing hours of a processor.
        raise CmpRefusal(Failure.BAD_ALG, f"{found.iterations} iterations are not accepted; at most {high} are.")
    if options.excludes("protection-strength"):
        return
    if found.iterations < low:
        raise CmpRefusal(Failure.BAD_ALG, f"{found.iterations} iterations are not enough; {low} are needed.")
    if f"hmac-{found.mac_hash}" not in options.macs:
        raise CmpRefusal(Failure.BAD_ALG, f"The MAC HMAC-{found.mac_hash.upper()} is not accepted.")
    # As a pseudorandom function a digest works inside HMAC; as a one-way function it stands alone.
    weak = found.derivation_hash not in options.digests
    if weak and (found.kind == "pbm" or f"hmac-{found.derivation_hash}" not in options.macs):
        raise CmpRefusal(
            Failure.BAD_ALG,
            f"Keys derived with {found.derivation_hash} are not accepted.",
            remedy=f"Use {', '.join(options.digests)}.",
        )


def _split(identifier: bytes) -> tuple[str, bytes]:
    reader = der.Reader(identifier).enter()
    oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
    parameters = b"" if reader.at_end else reader.read().der
    reader.finish()
    return oid, parameters


def _hash(identifier: bytes, known: dict[str, str], what: str = "MAC") -> str:
    oid, parameters = _split(identifier)
    if oid not in known or parameters not in (b"", der.null()):
        raise _unknown(f"{what} {oid}")
    return known[oid]


def _salt(salt: bytes) -> bytes:
    if not 1 <= len(salt) <= _LONGEST_SALT:
        raise _unknown(f"salt of {len(salt)} octets")
    return salt


def _named(known: dict[str, str], name: str) -> bytes:
    oid = next(oid for oid, found in reversed(known.items()) if found == name)
    return der.sequence(der.oid(oid), der.null())


def _unknown(what: str) -> CmpRefusal:
    return CmpRefusal(Failure.BAD_ALG, f"A {what} is not accepted to protect messages.")
