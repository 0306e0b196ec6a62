"""Readers of what enforcement points say: they take what products write, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import ssl
import time
from collections.abc import Callable, Iterable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.access.conftest import der, self_made

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import new_id
from intaglio.mtls.access import presented as read
from intaglio.mtls.access.adapters import ADAPTERS, Headers, Question, verify_error

CERTIFICATE = der(self_made()[0])
PEM = ssl.DER_cert_to_PEM_cert(CERTIFICATE)
ESCAPED = quote(PEM, safe="").encode()

READERS: list[Callable[[bytes], object]] = [
    read.escaped_pem,
    read.bare_pem,
    read.base64_der,
    read.structured_bytes,
    read.structured_byte_list,
    read.xfcc,
    read.unescaped,
    read.last_address,
]

#: Octets, and what looks almost right.
_PIECES = [
    ESCAPED, ESCAPED[:100], b"Cert=", b"Chain=", b"URI=a", b'"', b";", b",", b"%", b"%0", b":", b"=", b"\\", b"\n",
    base64.b64encode(CERTIFICATE), PEM.encode(), b"-----BEGIN CERTIFICATE-----",
]  # fmt: skip
almost = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=8), max_size=8).map(b"".join)


@given(st.binary(max_size=300) | almost)
def test_readers_refuse_or_read_but_never_fail(data: bytes) -> None:
    for reader in READERS:
        found: object = ()
        with contextlib.suppress(InvalidInput):
            found = reader(data)
        for each in found if isinstance(found, tuple) else ():
            assert each[:1] == b"\x30"


_NAMES = [
    b"x-client-cert", b"x-client-cert-der", b"x-client-chain-der", b"x-client-verify", b"x-real-ip", b"host",
    b"x-original-method", b"x-original-uri", b"x-original-host", b"x-tls-version", b"x-tls-cipher",
    b"x-forwarded-client-cert", b"x-forwarded-for", b"x-forwarded-tls-client-cert", b"x-forwarded-method",
    b"x-forwarded-uri", b"x-forwarded-host", b"x-envoy-external-address",
]  # fmt: skip


@given(
    st.sampled_from(sorted(ADAPTERS)),
    st.dictionaries(st.sampled_from(_NAMES), st.lists(st.binary(max_size=60) | almost, min_size=1, max_size=2)),
    st.text(max_size=20),
    st.text(max_size=60),
)
def test_adapters_give_clean_facts_or_refuse(
    name: str, headers: dict[bytes, Iterable[bytes]], method: str, rest: str
) -> None:
    sent = [(key, value) for key, values in headers.items() for value in values]
    question = Question(Headers(sent), method, rest)
    try:
        facts = ADAPTERS[name](question, new_id(), clock.now())
    except InvalidInput:
        return
    assert len(facts.presented) <= 11
    for text in (facts.source_ip, facts.host, facts.method, facts.tls_version, facts.cipher):
        assert not any(ord(character) < 0x20 or ord(character) == 0x7F for character in text)


def test_readers_take_what_products_write() -> None:
    bare = base64.b64encode(CERTIFICATE)
    assert read.escaped_pem(ESCAPED) == (CERTIFICATE,)
    assert read.escaped_pem(ESCAPED + ESCAPED) == (CERTIFICATE, CERTIFICATE)
    assert read.escaped_pem(ESCAPED.replace(b"%0A", b"%0D%0A")) == (CERTIFICATE,)
    assert read.bare_pem(bare + b"," + bare) == (CERTIFICATE, CERTIFICATE)
    assert read.bare_pem(quote(bare, safe="").encode()) == (CERTIFICATE,)
    assert read.structured_byte_list(b":" + bare + b":, :" + bare + b":") == (CERTIFICATE, CERTIFICATE)
    assert read.xfcc(b'Hash=ab;Cert="' + ESCAPED + b'";Subject="";URI=a;URI=b') == (CERTIFICATE,)
    assert read.xfcc(b'Chain="' + ESCAPED + ESCAPED + b'";Cert="' + ESCAPED + b'"') == (CERTIFICATE, CERTIFICATE)


@pytest.mark.parametrize(
    "value",
    [
        b'Cert="' + ESCAPED + b'",Cert="' + ESCAPED + b'"',
        b'Cert="' + ESCAPED + b'";Cert="' + ESCAPED + b'"',
        b'Hash=ab;Subject="x"',
        b'Cert="' + ESCAPED,
        b'Cert="' + ESCAPED + b'" ;URI=a',
        b";",
    ],
)
def test_forwarded_certificate_that_can_be_read_in_two_ways_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput):
        read.xfcc(value)


@pytest.mark.parametrize("value", [b"%", b"%4", b"%zz", b"%41%", PEM.encode() + b"x", b"", b"+" * 100])
def test_broken_encoding_is_refused_not_repaired(value: bytes) -> None:
    with pytest.raises(InvalidInput):
        read.escaped_pem(value)


@pytest.mark.parametrize("value", [b"a\nb", b"a\x00", b"\xff", b"a" * 9000])
def test_text_that_could_end_a_header_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput):
        read.text(value, "path")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("SUCCESS", ""), ("", ""), ("0", ""), ("FAILED:certificate has expired", "CERT_HAS_EXPIRED"),
        ("FAILED:certificate revoked", "CERT_REVOKED"), ("FAILED:unable to verify the first certificate", ""),
        ("10", "CERT_HAS_EXPIRED"), ("20", ""), ("FAILED:self-signed certificate", "DEPTH_ZERO_SELF_SIGNED_CERT"),
    ],
)  # fmt: skip
def test_words_of_the_ingress_become_names(said: str, name: str) -> None:
    assert verify_error(said, presented=True) == name


def test_certificate_with_the_word_that_there_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput):
        verify_error("NONE", presented=True)


@pytest.mark.parametrize(
    "value",
    [
        b"-----BEGIN CERTIFICATE-----" + b"\n" * 64_000, b"-----BEGIN CERTIFICATE-----" + b"A " * 32_000,
        b"-----BEGIN CERTIFICATE-----\n" * 2_300, b'Cert="' + b"\\" * 64_000, b"DNS=x;" * 10_000,
    ],
    ids=range(5),
)  # fmt: skip
def test_header_made_to_take_long_takes_no_longer_than_others(value: bytes) -> None:
    """Time of the processor, so that it says the same on a busy machine; the first took half a minute."""
    started = time.process_time()
    for reading in (read.escaped_pem, read.xfcc, read.bare_pem):
        with pytest.raises(InvalidInput):
            reading(value)
    assert time.process_time() - started < 5
