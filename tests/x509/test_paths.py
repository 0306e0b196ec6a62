"""Certificates for our CAs made elsewhere, and roots made elsewhere: every rule has its code."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput, Refused
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.paths import check_root_certificate, path_length_budget, verify_ca_certificate

Make = Callable[..., bytes]
ROOT = "CN=Root,O=Example,C=CA"
SUB = "CN=Issuing,O=Example,C=CA"


class Hierarchy:
    """A root and the means to make what comes below or beside it."""

    def __init__(self, issue: Make, ca_extensions: Make) -> None:
        self.issue, self.ca_extensions = issue, ca_extensions
        self.root_key = algorithms.generate_private_key(KeyAlgorithm.ECDSA_P256)
        self.key = algorithms.generate_private_key(KeyAlgorithm.ECDSA_P256)
        self.root_spki = algorithms.spki(self.root_key.public_key())
        self.spki = algorithms.spki(self.key.public_key())
        self.root_info = self.root()

    def root(self, *, path_len: int | None = None, ca: bool = True, **parts: object) -> CertificateInfo:
        usage = parts.pop("usage", ("keyCertSign", "cRLSign"))
        extensions = self.ca_extensions(self.root_spki, ca=ca, path_len=path_len, usage=usage)
        return read_certificate(
            self.issue(**{"subject": ROOT, "issuer": ROOT, "key": self.root_key, "issuer_key": self.root_key,
                          "extensions": extensions} | parts)
        )  # fmt: skip

    def sub(self, *, ca: bool = True, path_len: int | None = None, **parts: object) -> CertificateInfo:
        usage = parts.pop("usage", ("keyCertSign", "cRLSign"))
        issuer_spki = parts.pop("issuer_spki", self.root_spki)
        extensions = self.ca_extensions(self.spki, ca=ca, path_len=path_len, usage=usage, issuer_spki=issuer_spki)
        return read_certificate(
            self.issue(**{"subject": SUB, "issuer": ROOT, "key": self.key, "issuer_key": self.root_key,
                          "extensions": extensions} | parts)
        )  # fmt: skip


@pytest.fixture(scope="module")
def hierarchy(issue: Make, ca_extensions: Make) -> Hierarchy:
    return Hierarchy(issue, ca_extensions)


def test_a_certificate_the_root_made_for_our_key_is_accepted(hierarchy: Hierarchy, now: datetime) -> None:
    verify_ca_certificate(hierarchy.sub(path_len=0), hierarchy.root_info, hierarchy.spki, now)
    assert path_length_budget([hierarchy.sub(path_len=0), hierarchy.root_info]) == 0


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("wrong-issuer", {"issuer": "CN=Other"}),
        ("not-a-ca", {"ca": False}),
        ("no-cert-sign", {"usage": ("cRLSign",)}),
        ("no-subject", {"subject": ""}),
        ("not-valid-now", {"not_before": datetime(2027, 1, 1, tzinfo=UTC)}),
        ("not-valid-now", {"not_after": datetime(2026, 5, 31, 13, tzinfo=UTC)}),
        ("outlives-issuer", {"not_after": datetime(2040, 1, 1, tzinfo=UTC)}),
    ],
)  # fmt: skip
def test_a_certificate_that_breaks_a_rule_is_refused_with_its_code(
    hierarchy: Hierarchy, now: datetime, code: str, parts: dict[str, object]
) -> None:
    with pytest.raises(Refused) as caught:
        verify_ca_certificate(hierarchy.sub(**parts), hierarchy.root_info, hierarchy.spki, now)  # type: ignore[arg-type]
    assert caught.value.code == f"ca-certificate-{code}"


def _code(candidate: CertificateInfo, issuer: CertificateInfo, spki: bytes, now: datetime) -> str:
    with pytest.raises(Refused) as caught:
        verify_ca_certificate(candidate, issuer, spki, now)
    return caught.value.code


def test_a_certificate_for_another_key_is_refused(hierarchy: Hierarchy, now: datetime) -> None:
    assert _code(hierarchy.sub(), hierarchy.root_info, hierarchy.root_spki, now) == "ca-certificate-wrong-key"


def test_an_issuer_of_the_same_name_with_another_key_is_refused(hierarchy: Hierarchy, now: datetime) -> None:
    by_other = hierarchy.sub(issuer_key=hierarchy.key)
    assert _code(by_other, hierarchy.root_info, hierarchy.spki, now) == "ca-certificate-bad-signature"
    named_other = hierarchy.sub(issuer_key=hierarchy.key, issuer_spki=hierarchy.spki)
    assert _code(named_other, hierarchy.root_info, hierarchy.spki, now) == "ca-certificate-wrong-issuer"


def test_a_root_that_allows_no_subordinates_is_respected(hierarchy: Hierarchy, now: datetime) -> None:
    assert _code(hierarchy.sub(), hierarchy.root(path_len=0), hierarchy.spki, now) == "ca-certificate-path-length"


def test_the_path_length_budget_is_the_tightest_of_the_chain(hierarchy: Hierarchy) -> None:
    root, unlimited = hierarchy.root(path_len=2), hierarchy.root_info
    assert path_length_budget([unlimited]) is None
    assert path_length_budget([root]) == 2
    assert path_length_budget([hierarchy.sub(), unlimited]) is None
    assert path_length_budget([hierarchy.sub(), root]) == 1
    assert path_length_budget([hierarchy.sub(path_len=0), root]) == 0
    assert path_length_budget([hierarchy.sub(path_len=5), root]) == 1


def test_a_sound_root_is_accepted(hierarchy: Hierarchy, now: datetime) -> None:
    check_root_certificate(hierarchy.root_info, now)
    check_root_certificate(hierarchy.root(path_len=3), now)
    assert hierarchy.root_info.is_self_issued


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("not-a-ca", {"ca": False}),
        ("no-cert-sign", {"usage": ("cRLSign",)}),
        ("not-self-signed", {"issuer": "CN=Other"}),
        ("not-valid-now", {"not_after": datetime(2026, 5, 31, 13, tzinfo=UTC)}),
        ("not-valid-now", {"not_before": datetime(2026, 6, 2, tzinfo=UTC)}),
        ("no-subject", {"subject": "", "issuer": ""}),
    ],
)
def test_an_unsound_root_is_refused_with_its_code(
    hierarchy: Hierarchy, now: datetime, code: str, parts: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_root_certificate(hierarchy.root(**parts), now)  # type: ignore[arg-type]
    assert caught.value.code == f"root-{code}"


def test_a_root_that_another_key_signed_is_refused(hierarchy: Hierarchy, now: datetime) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_root_certificate(hierarchy.root(issuer_key=hierarchy.key), now)
    assert caught.value.code == "root-not-self-signed"


def test_a_root_with_a_short_or_weak_key_is_refused(issue: Make, hierarchy: Hierarchy, now: datetime) -> None:
    for key, code in (
        (rsa.generate_private_key(65_537, 1024), "key-algorithm-not-allowed"),
        (rsa.generate_private_key(3, 2048), "weak-key"),
    ):
        data = issue(subject=ROOT, key=key, issuer_key=hierarchy.key)
        with pytest.raises(InvalidInput) as caught:
            check_root_certificate(read_certificate(data), now)
        assert caught.value.code == code
