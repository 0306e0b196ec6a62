"""Keys and certificates that tests of the toolkit share; made once, because RSA keys take their time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, generate_private_key
from intaglio.mtls.toolkit.certificates import self_signed
from intaglio.mtls.toolkit.requests import make_request
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Identity:
    """A key and a self-signed certificate for it (DER)."""

    key: PrivateKey
    certificate: bytes


def make_identity(algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256, name: str = "alice") -> Identity:
    key = generate_private_key(algorithm)
    names = GeneralNames.build([("email", f"{name}@example.com")])
    request = parse_request(make_request(key, Name.parse(f"CN={name},O=Example"), names))
    return Identity(key, self_signed(request, key, now=NOW))


@pytest.fixture(scope="session")
def alice() -> Identity:
    return make_identity()


@pytest.fixture(scope="session")
def rsa() -> Identity:
    return make_identity(KeyAlgorithm.RSA_2048)
