"""Which readers understand what: the choices that old systems refuse, and the safe one. One row per known limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit.pkcs12_writer import Variant
from intaglio.mtls.toolkit.signatures import Digest


@dataclass(frozen=True)
class System:
    """A reader of keys, certificates and PKCS #12, and what it can take. ``weakness`` says in words what it cannot."""

    name: str
    title: str
    keys: frozenset[KeyAlgorithm]
    digests: frozenset[Digest]
    pkcs12: frozenset[Variant]
    weakness: str


@dataclass(frozen=True)
class Advice:
    """One remark about a system: what will fail there, and what to choose instead."""

    system: str
    problem: str
    instead: str


_K = KeyAlgorithm
_RSA = frozenset({_K.RSA_2048, _K.RSA_3072, _K.RSA_4096})
_NIST = _RSA | {_K.ECDSA_P256, _K.ECDSA_P384}
_OPENSSL = _NIST | {_K.ECDSA_P521, _K.ED25519, _K.ED448}
_ALL_DIGESTS = frozenset(Digest)
_MISLEADING = "with the words that the password is wrong"
_MODERN = frozenset({Variant.AES_256, Variant.AES_128, Variant.COMPATIBLE})
_OLD = frozenset({Variant.COMPATIBLE})

SYSTEMS: dict[str, System] = {
    each.name: each
    for each in (
        System("openssl-3", "OpenSSL 3", _OPENSSL, _ALL_DIGESTS, _MODERN, "3DES PKCS #12 only with -legacy"),
        System("openssl-1.1", "OpenSSL 1.1", _OPENSSL, _ALL_DIGESTS, _MODERN, ""),
        System("gnutls", "GnuTLS 3.6 and newer", _OPENSSL, _ALL_DIGESTS, _MODERN, ""),
        System("nss", "Firefox, NSS", _NIST | {_K.ECDSA_P521}, _ALL_DIGESTS, _MODERN, "no Ed25519 certificates"),
        System("java-11", "Java 11.0.12", _NIST | {_K.ECDSA_P521}, _ALL_DIGESTS, _MODERN, "no Ed25519 before 15"),
        System("java-8", "Java before 8u301", _NIST | {_K.ECDSA_P521}, _ALL_DIGESTS, _OLD, "it knows no AES there"),
        System("windows-11", "Windows 10 1709, Windows 11, Server 2019", _NIST, _ALL_DIGESTS, _MODERN, ""),
        System("windows-2016", "Windows Server 2016", _NIST, _ALL_DIGESTS, _OLD, _MISLEADING),
        System("macos", "macOS (Keychain)", _NIST, _ALL_DIGESTS, _OLD, _MISLEADING),
        System("ios", "iPhone and iPad", _NIST, _ALL_DIGESTS, _OLD, _MISLEADING),
        System("android-14", "Android 14 and newer", _NIST, _ALL_DIGESTS, _MODERN, ""),
        System("android-13", "Android 13 and older", _NIST, _ALL_DIGESTS, _OLD, _MISLEADING),
        System(
            "legacy", "Very old appliances and mainframes", frozenset({_K.RSA_2048}), frozenset({Digest.SHA256}), _OLD,
            "RSA 4096, elliptic curves, AES-256 and SHA-384 are too new",
        ),
    )
}  # fmt: skip


def advise(
    key: KeyAlgorithm, digest: Digest, variant: Variant | None = None, systems: Sequence[str] = ()
) -> list[Advice]:
    """What of a choice will fail where; for the named ``systems``, else for all of them.

    Raises InvalidInput (``system-unknown``).
    """
    found: list[Advice] = []
    for system in map(_system, systems or SYSTEMS):
        if key not in system.keys:
            best = KeyAlgorithm.ECDSA_P256 if KeyAlgorithm.ECDSA_P256 in system.keys else KeyAlgorithm.RSA_2048
            found.append(Advice(system.title, f"{key.value} keys are not accepted.", f"Use {best.value}."))
        elif digest not in system.digests:
            found.append(Advice(system.title, f"{digest.value} signatures may be refused.", "Use sha256."))
        if variant is not None and variant not in system.pkcs12:
            problem = f"A PKCS #12 with {variant.value} is refused ({system.weakness})."
            found.append(Advice(system.title, problem, "Use the compatible variant of the same key."))
    return found


def safest(systems: Sequence[str]) -> tuple[KeyAlgorithm, Digest, Variant]:
    """Key, digest (SHA-256 is understood everywhere) and PKCS #12 variant that all ``systems`` take; default: all."""
    chosen = [_system(name) for name in systems or SYSTEMS]
    order = (KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_2048)
    key = next(each for each in order if all(each in system.keys for system in chosen))
    variant = next(each for each in Variant if all(each in system.pkcs12 for system in chosen))
    return key, Digest.SHA256, variant


def _system(name: str) -> System:
    if name not in SYSTEMS:
        raise InvalidInput(
            f'"{name[:40]}" is not a system the advice knows.',
            code="system-unknown",
            remedy=f"Use one of: {', '.join(SYSTEMS)}.",
            target="systems",
        )
    return SYSTEMS[name]
