"""Certificates for our CAs made elsewhere, and roots made elsewhere: every rule has its code."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.support.authority import openssl

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core import clock
from intaglio.core.errors import InvalidInput, Refused
from intaglio.x509 import weak_keys
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.paths import check_root_certificate, path_length_budget, root_warnings, verify_ca_certificate

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
    data = issue(subject=ROOT, key=rsa.generate_private_key(65_537, 1024), issuer_key=hierarchy.key)
    with pytest.raises(InvalidInput) as caught:
        check_root_certificate(read_certificate(data), now)
    assert caught.value.code == "key-algorithm-not-allowed"
    even = rsa.RSAPublicNumbers(4, rsa.generate_private_key(65_537, 2048).public_key().public_numbers().n)
    with pytest.raises(InvalidInput) as weak:
        weak_keys.check_rsa(even.n, even.e, small_exponent=True)
    assert weak.value.code == "weak-key"


def test_a_root_may_have_any_odd_exponent_from_three_on(issue: Make, hierarchy: Hierarchy, now: datetime) -> None:
    key = rsa.generate_private_key(3, 2048)
    extensions = hierarchy.ca_extensions(algorithms.spki(key.public_key()), ca=True, usage=("keyCertSign",))
    root = read_certificate(issue(subject=ROOT, issuer=ROOT, key=key, issuer_key=key, extensions=extensions))
    check_root_certificate(root, now)
    [warning] = root_warnings(root)
    assert "exponent is 3" in warning
    assert root_warnings(hierarchy.root_info) == ()


_OPENSSL_ROOTS = {
    "RSA, SHA-1": ("rsa:2048", ("-sha1",)),
    "RSA, MD5": ("rsa:2048", ("-md5",)),
    "RSA, SHA-224": ("rsa:2048", ("-sha224",)),
    "RSA-PSS, SHA-1": ("rsa:2048", ("-sha1", "-sigopt", "rsa_padding_mode:pss")),
    "ECDSA, SHA-1": ("ec", ("-pkeyopt", "ec_paramgen_curve:P-256", "-sha1")),
}


def _by_openssl(folder: Path, key: str, options: Sequence[str]) -> str:
    return openssl(
        "req", "-x509", "-newkey", key, *options, "-noenc", "-subj", "/O=Old/CN=Root", "-keyout", folder / "key.pem",
        "-days", "3650", "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip


@pytest.mark.parametrize("kind", _OPENSSL_ROOTS)
def test_a_root_of_openssl_with_an_old_signature_is_accepted_with_a_warning(tmp_path: Path, kind: str) -> None:
    root = read_certificate(_by_openssl(tmp_path, *_OPENSSL_ROOTS[kind]))
    check_root_certificate(root, clock.now())
    [warning] = root_warnings(root)
    assert f"signed itself with {kind.split(', ')[1]}." in warning


@pytest.mark.parametrize("exponent", [3, 17])
def test_a_root_of_openssl_with_a_small_exponent_is_accepted_with_a_warning(tmp_path: Path, exponent: int) -> None:
    options = ("-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", f"rsa_keygen_pubexp:{exponent}")
    root = read_certificate(_by_openssl(tmp_path, "rsa", options))
    check_root_certificate(root, clock.now())
    [warning] = root_warnings(root)
    assert f"exponent is {exponent};" in warning


@pytest.mark.parametrize("kind", _OPENSSL_ROOTS)
def test_a_damaged_old_signature_is_noticed(tmp_path: Path, kind: str) -> None:
    der = bytearray(read_certificate(_by_openssl(tmp_path, *_OPENSSL_ROOTS[kind])).der)
    der[-1] ^= 1
    with pytest.raises(InvalidInput) as caught:
        check_root_certificate(read_certificate(bytes(der)), clock.now())
    assert caught.value.code == "root-not-self-signed"


def test_a_signature_that_cannot_be_verified_is_refused_for_that_reason(tmp_path: Path) -> None:
    root = read_certificate(_by_openssl(tmp_path, "rsa:2048", ("-ripemd160",)))
    with pytest.raises(InvalidInput) as caught:
        check_root_certificate(root, clock.now())
    assert caught.value.code == "root-signature-unsupported"
    assert root.signature_oid in caught.value.detail


def test_only_the_own_signature_of_a_root_may_be_old(tmp_path: Path) -> None:
    root = read_certificate(_by_openssl(tmp_path, *_OPENSSL_ROOTS["RSA, SHA-1"]))
    assert not root.verify_signed_by(root.spki)


@given(st.data())
def test_a_damaged_root_is_accepted_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(_old_root())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        root = read_certificate(bytes(damaged))
        check_root_certificate(root, datetime(2026, 6, 1, tzinfo=UTC))
    except InvalidInput:
        return
    assert root_warnings(root)


@cache
def _old_root() -> bytes:
    """A root with the exponent 3 that the installed library made; hypothesis damages it."""
    key = rsa.generate_private_key(3, 2048)
    name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, "Old")])
    builder = pyca.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
    builder = builder.add_extension(pyca.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)
