"""A throw-away CA and short ways to ask it for certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509 as pyca

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import IntaglioError
from intaglio.core.identifiers import new_serial_number
from intaglio.profiles import registry, testing
from intaglio.profiles.engine import IssuanceInput, Issuer, PreparedCertificate, compile_profile
from intaglio.profiles.model import CertificateProfile
from intaglio.profiles.testing import ThrowAwayCa
from intaglio.x509.names import Name

NOW = datetime(2026, 6, 15, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class Desk:
    """Asks for certificates at one CA, at one moment."""

    ca: ThrowAwayCa
    issuer: Issuer
    spki: bytes
    now: datetime = NOW

    def request(self, **values: Any) -> IssuanceInput:
        """A plain request of an unauthenticated protocol client, with other values where given."""
        defaults: dict[str, Any] = {
            "subject": Name.build([("O", "Example"), ("CN", "host.example")]),
            "spki": self.spki,
            "key_algorithm": KeyAlgorithm.ECDSA_P256,
            "channel": "gateway-api",
        }
        return IssuanceInput(**{**defaults, **values})

    def prepare(self, profile: str | CertificateProfile, **values: Any) -> PreparedCertificate:
        chosen = registry.get(profile) if isinstance(profile, str) else profile
        return compile_profile(chosen, self.issuer).prepare(
            self.request(**values), serial=new_serial_number(), now=self.now
        )

    def issue(self, profile: str | CertificateProfile, **values: Any) -> pyca.Certificate:
        prepared = self.prepare(profile, **values)
        return pyca.load_der_x509_certificate(prepared.assemble(algorithms.sign(self.ca.key, prepared.tbs)))

    def refusal(self, profile: str | CertificateProfile, **values: Any) -> IntaglioError:
        """The error with which the request is refused."""
        with pytest.raises(IntaglioError) as caught:
            self.prepare(profile, **values)
        assert caught.value.detail
        assert caught.value.extra["step"]
        return caught.value

    def attempt(self, profile: str, **values: Any) -> pyca.Certificate | IntaglioError:
        """The certificate, or the error with which the request is refused."""
        try:
            return self.issue(profile, **values)
        except IntaglioError as error:
            return error

    def at(self, issuer_changes: dict[str, Any] | None = None, *, now: datetime | None = None) -> Desk:
        """The same desk at another moment or with another issuer."""
        return replace(self, issuer=replace(self.issuer, **(issuer_changes or {})), now=now or self.now)


@pytest.fixture(scope="session")
def throw_away_ca() -> ThrowAwayCa:
    return testing.throw_away_ca(NOW)


@pytest.fixture(scope="session")
def keys() -> Callable[[KeyAlgorithm], algorithms.PrivateKey]:
    """One key of each type, made when first asked for."""
    made: dict[KeyAlgorithm, algorithms.PrivateKey] = {}

    def key(algorithm: KeyAlgorithm) -> algorithms.PrivateKey:
        if algorithm not in made:
            made[algorithm] = algorithms.generate_private_key(algorithm)
        return made[algorithm]

    return key


@pytest.fixture(scope="session")
def desk(throw_away_ca: ThrowAwayCa, keys: Callable[[KeyAlgorithm], algorithms.PrivateKey]) -> Desk:
    ten_years = {"not_before": NOW - timedelta(days=365), "not_after": datetime(2036, 1, 1, tzinfo=UTC)}
    spki = algorithms.spki(keys(KeyAlgorithm.ECDSA_P256).public_key())
    return Desk(throw_away_ca, replace(throw_away_ca.issuer, **ten_years), spki)
