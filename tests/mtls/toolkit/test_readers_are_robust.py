"""Whatever bytes come in, the readers answer with a refusal of theirs, quickly, and never with anything else."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.toolkit.conftest import NOW, make_identity

from intaglio.core.errors import IntaglioError
from intaglio.mtls.toolkit import ber, conversion, inspection, keys, pbe
from intaglio.mtls.toolkit.name_constraints import Constraints
from intaglio.mtls.toolkit.pkcs12_reader import look_at_pkcs12, open_pkcs12
from intaglio.mtls.toolkit.pkcs12_writer import Protection, Variant, encode_pkcs12
from intaglio.mtls.toolkit.status import read
from intaglio.x509.certificates import read_certificate

_ALICE = make_identity()
_PASSWORD = "secret"
_P12 = encode_pkcs12(_ALICE.key, _ALICE.certificate, [], _PASSWORD, protection=Protection(Variant.AES_256, 1000, 1000))
_KEY = keys.encode_key(_ALICE.key, _PASSWORD, iterations=1000, form="der")


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` with a few octets changed, and perhaps cut off."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(len(data) // 2, len(data)))])


@given(st.binary(max_size=400) | damaged(_P12))
def test_pkcs12(data: bytes) -> None:
    with contextlib.suppress(IntaglioError):
        structure = look_at_pkcs12(data)
        keys_take = [each.iterations or 0 for each in structure.key_encryptions]
        many = [structure.mac.iterations if structure.mac else 0, *keys_take]
        if max(many) <= 10_000:  # more is allowed and only takes its time
            open_pkcs12(data, _PASSWORD)


@given(st.binary(max_size=400) | damaged(_KEY))
def test_keys(data: bytes) -> None:
    with contextlib.suppress(IntaglioError):
        file = keys.look_at_key(data)
        if file.encryption is None or (file.encryption.iterations or 0) <= 10_000:
            keys.open_key(file, _PASSWORD)


@given(st.text(max_size=200) | st.sampled_from(["ENCRYPTED PRIVATE KEY", "PRIVATE KEY", "PKCS7", "X509 CRL"]))
def test_pem_text(text: str) -> None:
    for data in (text.encode(), f"-----BEGIN {text}-----\nMAMCAQE=\n-----END {text}-----\n".encode()):
        with contextlib.suppress(IntaglioError):
            inspection.inspect(data, now=NOW)
        with contextlib.suppress(IntaglioError):
            conversion.convert(data, conversion.Format.DER)
        with contextlib.suppress(IntaglioError):
            conversion.convert(data, conversion.Format.PEM)


@given(st.binary(max_size=300) | damaged(_P12) | damaged(_KEY) | damaged(_ALICE.certificate))
def test_inspection(data: bytes) -> None:
    with contextlib.suppress(IntaglioError):
        inspection.inspect(data, now=NOW)


@given(st.binary(max_size=300))
def test_status_answers(data: bytes) -> None:
    with contextlib.suppress(IntaglioError):
        read([data], [])
    with contextlib.suppress(IntaglioError):
        read([], [data])


@given(st.binary(max_size=200))
def test_ber_becomes_der_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(IntaglioError):
        made = ber.to_der(data)
        assert ber.to_der(made) == made


@given(st.binary(max_size=200))
def test_name_constraints(value: bytes) -> None:
    from intaglio.x509.certificates import CertificateInfo
    from intaglio.x509.extensions import NAME_CONSTRAINTS, Extension

    info = read_certificate(_ALICE.certificate)
    object.__setattr__(info, "extensions", (*info.extensions, Extension(NAME_CONSTRAINTS, True, value)))
    assert isinstance(info, CertificateInfo)
    with contextlib.suppress(IntaglioError):
        found = Constraints.of(info)
        assert found is not None
        found.broken_by(read_certificate(_ALICE.certificate))


def test_ber_that_nests_without_end_is_refused() -> None:
    with contextlib.suppress(IntaglioError):
        ber.to_der(b"\x30\x80" * 100_000)


def test_the_number_of_iterations_is_bounded_when_writing() -> None:
    for iterations in (0, pbe.FEWEST_ITERATIONS - 1, pbe.MOST_ITERATIONS + 1):
        with contextlib.suppress(IntaglioError):
            keys.encode_key(_ALICE.key, _PASSWORD, iterations=iterations)
            raise AssertionError(iterations)
