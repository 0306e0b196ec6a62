"""What is a timestamp request, and how what is none is refused."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.timestamping.rejections import Failure, Rejection
from intaglio.timestamping.requests import HASHES, MAX_NONCE_OCTETS, _parse, _usual, parse_request
from intaglio.timestamping.verification import make_query

SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.null())
DIGEST = hashlib.sha256(b"data").digest()


def imprint(algorithm: bytes = SHA256, digest: bytes = DIGEST) -> bytes:
    return der.sequence(algorithm, der.octet_string(digest))


def request(*parts: bytes) -> bytes:
    return der.sequence(der.integer(1), imprint(), *parts)


def failure(data: bytes) -> Failure:
    with pytest.raises(Rejection) as refused:
        parse_request(data)
    return refused.value.failure


def test_everything_a_request_can_say_is_read() -> None:
    found = parse_request(request(der.oid("1.2.3.4"), der.integer(-5), der.boolean(True)))
    assert (found.hash_name, found.digest, found.imprint) == ("sha256", DIGEST, imprint())
    assert (found.policy, found.nonce, found.wants_certificate) == (der.oid("1.2.3.4"), der.integer(-5), True)


def test_optional_fields_may_be_missing_and_false_may_be_written() -> None:
    found = parse_request(request())
    assert (found.policy, found.nonce, found.wants_certificate) == (b"", b"", False)
    assert not parse_request(request(der.boolean(False))).wants_certificate
    assert parse_request(der.sequence(der.integer(1), imprint(der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))))).digest


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Failure.BAD_DATA_FORMAT),
        (b"\x30\x80\x00\x00", Failure.BAD_DATA_FORMAT),
        (request() + b"\x00", Failure.BAD_DATA_FORMAT),
        (request()[:-1], Failure.BAD_DATA_FORMAT),
        (der.sequence(der.integer(1)), Failure.BAD_DATA_FORMAT),
        (der.sequence(imprint(), der.integer(1)), Failure.BAD_DATA_FORMAT),
        (request(der.boolean(True), der.integer(5)), Failure.BAD_DATA_FORMAT),
        (request(der.integer(5), der.oid("1.2.3")), Failure.BAD_DATA_FORMAT),
        (request(der.tlv(der.INTEGER, b"\x00\x05")), Failure.BAD_DATA_FORMAT),
        (request(der.tlv(der.BOOLEAN, b"\x01")), Failure.BAD_DATA_FORMAT),
        (request(der.explicit(0, b"")), Failure.BAD_DATA_FORMAT),
        (request(der.explicit(0, der.integer(1))), Failure.BAD_DATA_FORMAT),
        (request(der.octet_string(b"more")), Failure.BAD_DATA_FORMAT),
        (der.sequence(der.integer(1), der.sequence(der.octet_string(DIGEST))), Failure.BAD_DATA_FORMAT),
        (der.sequence(der.integer(2), imprint()), Failure.BAD_REQUEST),
        (der.sequence(der.integer(1), imprint(digest=DIGEST[:-1])), Failure.BAD_REQUEST),
        (der.sequence(der.integer(1), imprint(digest=b"")), Failure.BAD_REQUEST),
        (der.sequence(der.integer(1), imprint(der.sequence(SHA256[2:13], der.integer(1)))), Failure.BAD_REQUEST),
        (request(der.tlv(der.INTEGER, b"\x01" * (MAX_NONCE_OCTETS + 1))), Failure.BAD_REQUEST),
        (
            request(der.explicit(0, der.sequence(der.oid("1.2.3"), der.octet_string(b"")))),
            Failure.UNACCEPTED_EXTENSION,
        ),
        (
            request(der.explicit(0, der.sequence(der.oid("1.2.3"), der.boolean(True), der.octet_string(b"")))),
            Failure.UNACCEPTED_EXTENSION,
        ),
    ],
)
def test_what_is_wrong_is_told_by_the_right_failure(data: bytes, expected: Failure) -> None:
    assert failure(data) == expected


def test_an_unknown_hash_algorithm_has_no_name() -> None:
    md5 = der.sequence(der.oid("1.2.840.113549.2.5"), der.null())
    found = parse_request(der.sequence(der.integer(1), imprint(md5)))
    assert found.hash_name is None


@given(st.binary(max_size=300))
def test_any_octets_are_a_request_or_refused(data: bytes) -> None:
    with contextlib.suppress(Rejection):  # anything else would be answered by an internal error
        parse_request(data)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_a_request_with_one_octet_changed_is_a_request_or_refused(place: int, octet: int) -> None:
    data = bytearray(request(der.oid("1.2.3.4"), der.integer(77), der.boolean(True)))
    data[place % len(data)] = octet
    with contextlib.suppress(Rejection):
        parse_request(bytes(data))


@given(st.sampled_from([name for name, _ in HASHES.values()]), st.booleans())
def test_our_own_queries_are_requests(name: str, certificates: bool) -> None:
    digest = bytes(dict(HASHES.values())[name])
    query = make_query(digest, name, policy="1.2.3.4", certificates=certificates)
    found = parse_request(query.der)
    assert (found.hash_name, found.digest, found.wants_certificate) == (name, digest, certificates)
    assert found.nonce == der.integer(query.nonce)


@given(
    st.sampled_from([name for name, _ in HASHES.values()]),
    st.none() | st.integers(-(2**70), 2**70),
    st.none() | st.booleans(),
    st.booleans(),
    st.none() | st.tuples(st.integers(min_value=0), st.integers(0, 255)),
)
def test_the_short_way_says_what_the_long_way_says(
    name: str, nonce: int | None, wanted: bool | None, parameters: bool, change: tuple[int, int] | None
) -> None:
    oid, length = next((oid, length) for oid, (known, length) in HASHES.items() if known == name)
    algorithm = der.sequence(der.tlv(der.OBJECT_IDENTIFIER, oid), der.null() if parameters else b"")
    parts = [der.integer(1), imprint(algorithm, bytes(length))]
    parts += [der.integer(nonce)] if nonce is not None else []
    parts += [der.boolean(wanted)] if wanted is not None else []
    data = bytearray(der.sequence(*parts))
    if change is not None:
        data[change[0] % len(data)] = change[1]
    short = _usual(bytes(data))
    if change is None:
        assert short is not None or len(data) > 129
    if short is not None:
        assert short == _parse(bytes(data))
