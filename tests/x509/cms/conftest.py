"""People with keys and certificates who send each other messages, and openssl to read over their shoulders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from intaglio.asn1.algorithms import PrivateKey
from intaglio.x509.certificates import CertificateInfo, read_certificate


@dataclass(frozen=True)
class Person:
    """Somebody with a key; ``files`` holds ``key.pem`` and ``certificate.pem`` for programs."""

    key: PrivateKey
    certificate: CertificateInfo
    files: Path

    @property
    def key_file(self) -> str:
        return str(self.files / "key.pem")

    @property
    def certificate_file(self) -> str:
        return str(self.files / "certificate.pem")


@pytest.fixture(scope="session")
def people(issue: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Person]:
    """``rsa``, ``ec``, ``ed25519``, and ``other`` (RSA), by name."""
    keys: dict[str, PrivateKey] = {
        "rsa": rsa.generate_private_key(65_537, 2048),
        "other": rsa.generate_private_key(65_537, 2048),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    found = {}
    for number, (name, key) in enumerate(keys.items(), start=0x41):
        data = issue(subject=f"CN={name}", key=key, serial=bytes((number,)))
        files = tmp_path_factory.mktemp(name)
        (files / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate = read_certificate(data)
        (files / "certificate.pem").write_text(certificate.pem)
        found[name] = Person(key, certificate, files)
    return found


@pytest.fixture
def message(tmp_path: Path) -> Path:
    """A file with the message that is signed and encrypted."""
    path = tmp_path / "message"
    path.write_bytes(b"attack at dawn, \x00\xff in octets " * 40)
    return path
