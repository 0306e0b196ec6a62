"""Codes as text, bodies, addresses, files: everything that is read from outside or shown to people."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.mtls.enrolment.conftest import csr

from intaglio.core.errors import InvalidInput, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.mtls.enrolment import bodies, record_store
from intaglio.mtls.enrolment.code_text import ALPHABET, SecurityCode, code_hash, new_code, read_code
from intaglio.mtls.enrolment.csr_checks import Expected, read_csr
from intaglio.mtls.enrolment.policy import host_name
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.x509.requests import parse_request

_SYMBOLS = st.text(ALPHABET, min_size=25, max_size=25)


def test_a_code_has_a_hundred_secret_bits_in_groups_of_five() -> None:
    codes = [new_code() for _ in range(50)]
    assert len({code.text for code in codes}) == 50
    for code in codes:
        assert [len(group) for group in code.text.split("-")] == [5] * 5
        assert 5 * len(code.secret) >= 100


@given(_SYMBOLS, st.sampled_from(["", "-", " ", "\u2013"]), st.booleans())
def test_a_code_is_read_however_it_is_typed(symbols: str, separator: str, lower: bool) -> None:
    typed = separator.join(symbols[i : i + 5] for i in range(0, 25, 5)).replace("0", "O").replace("1", "I")
    assert read_code(typed.lower() if lower else typed) == SecurityCode(symbols[:5], symbols[5:])


@given(st.text(max_size=300))
def test_any_text_is_a_code_or_none(text: str) -> None:
    found = read_code(text)
    assert found is None or read_code(found.text) == found


def test_the_hash_of_a_code_needs_the_key_and_belongs_to_its_row() -> None:
    code, row = new_code(), new_id()
    assert code_hash(b"k" * 32, row, code) == code_hash(b"k" * 32, row, code)
    assert code_hash(b"k" * 32, row, code) != code_hash(b"l" * 32, row, code)
    assert code_hash(b"k" * 32, row, code) != code_hash(b"k" * 32, new_id(), code)


@given(st.binary(max_size=500))
def test_what_is_no_object_with_the_texts_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        bodies.read_texts(body, ["code", "email"])
    assert caught.value.code in ("invalid-json", "invalid-input", "invalid-text")
    assert len(body) < 10 or body.decode("latin-1") not in caught.value.detail


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["code", "email", "more"]), _JSON))
def test_only_texts_of_known_names_are_taken(given_: dict[str, object]) -> None:
    good = set(given_) == {"code", "email"} and all(isinstance(value, str) for value in given_.values())
    body = json.dumps(given_).encode()
    if good:
        assert bodies.read_texts(body, ["code", "email"]) == given_
    else:
        with pytest.raises(InvalidInput):
            bodies.read_texts(body, ["code", "email"])


def test_half_a_character_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        bodies.read_texts(b'{"code": "\\ud800"}', ["code"])
    assert caught.value.code == "invalid-text"


EXPECTED = Expected("u-1", "a@example.com", "nonce", ["EC P-256"])


@given(st.binary(max_size=600))
def test_any_octets_are_a_request_or_refused_with_a_promised_code(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_csr(data, EXPECTED)
    assert caught.value.code in ("csr_malformed", "csr_signature", "csr_key_type", "csr_mismatch")


_REQUEST = x509.load_pem_x509_csr(csr("u-1", "a@example.com", "nonce", ec.derive_private_key(7, ec.SECP256R1())))
_DER = _REQUEST.public_bytes(Encoding.DER)


@given(st.integers(0, len(_DER) - 1), st.integers(1, 255))
def test_a_request_altered_in_one_octet_is_refused_with_a_promised_code(position: int, change: int) -> None:
    altered = _DER[:position] + bytes([_DER[position] ^ change]) + _DER[position + 1 :]
    with pytest.raises(InvalidInput) as caught:
        read_csr(altered, EXPECTED)
    assert caught.value.code in ("csr_malformed", "csr_signature", "csr_key_type", "csr_mismatch")


def test_the_unaltered_request_is_good() -> None:
    assert read_csr(_DER, EXPECTED).challenge_password == "nonce"


@pytest.mark.parametrize("spelling", ["ASCII", "utf8only", "nombstr"])
def test_a_challenge_password_of_openssl_is_read(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "req.cnf").write_text(
        f"[req]\nprompt=no\nstring_mask={'utf8only' if spelling == 'ASCII' else spelling}\n"
        "distinguished_name=dn\nattributes=at\n[dn]\nCN=u-1\n[at]\nchallengePassword=nonce-1_2\n"
    )
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         str(tmp_path / "key"), "-config", str(tmp_path / "req.cnf")],
        capture_output=True, check=True,
    )  # fmt: skip
    assert parse_request(made.stdout).challenge_password == "nonce-1_2"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("pki.example:8443", "pki.example"),
        ("PKI.example", "pki.example"),
        ("[::1]:8443", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
        ("pki.example:8443/x", ""),
        ("pki.example@evil.example", ""),
        ('pki"><script>', ""),
    ],
)
def test_only_a_host_is_taken_from_a_host_header(header: str, expected: str) -> None:
    assert host_name(header) == expected


@given(st.text(max_size=300))
def test_no_host_header_gets_anything_else_into_an_address(header: str) -> None:
    found = host_name(header)
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-[]:")


@given(st.binary(max_size=300))
def test_a_record_is_opened_only_as_it_was_stored(plaintext: bytes) -> None:
    key = b"k" * 32
    body = record_store.encrypt(key, "bindings/1.json", plaintext)
    assert record_store.decrypt(key, "bindings/1.json", body) == plaintext
    assert len(plaintext) < 4 or plaintext not in body
    for other, name in ((key, "bindings/2.json"), (b"l" * 32, "bindings/1.json")):
        with pytest.raises(Unavailable, match="no record"):
            record_store.decrypt(other, name, body)


@given(st.binary(max_size=300))
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(Unavailable, match="no record"):
        record_store.decrypt(b"k" * 32, "x", body)




@pytest.mark.parametrize("title", ["Bell\x07", "Two\nlines", "Half \ud800"])
def test_a_title_that_no_file_for_a_device_can_hold_is_refused(title: str) -> None:
    with pytest.raises(ValidationError):
        EnrolmentSettings(title=title)
