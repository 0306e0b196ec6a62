"""CMP and CRMF on the wire: what is written is read back, and nothing else is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.cmp import Body, CertStatus, Failure, InfoTypeAndValue, PkiHeader, Status, StatusInfo
from intaglio.core.errors import InvalidInput

NAME = der.sequence(der.set_of(der.sequence(der.oid("2.5.4.3"), der.utf8_string("device-1"))))
SPKI = der.sequence(der.sequence(der.oid("1.3.101.112")), der.bit_string(bytes(range(32))))
ALGORITHM = der.sequence(der.oid("1.3.101.112"))
HEADER = PkiHeader(
    2,
    der.explicit(4, NAME),
    der.explicit(4, b"\x30\x00"),
    datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
    ALGORITHM,
    b"sender",
    b"recipient",
    bytes(16),
    b"n" * 16,
    b"r" * 16,
    ("for people", "für Menschen"),
    (InfoTypeAndValue("1.3.6.1.5.5.7.4.13", der.null()), InfoTypeAndValue("1.3.6.1.5.5.7.4.17")),
)


def _with(**changes: Any) -> PkiHeader:
    return replace(HEADER, **changes)


TEMPLATE = crmf.cert_template(
    subject=NAME,
    public_key=SPKI,
    extensions=der.sequence(der.oid("2.5.29.15"), der.octet_string(b"\x03\x02\x07\x80")),
    issuer=NAME,
    serial=4711,
    validity=(datetime(2026, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)),
)
REQUEST = crmf.cert_request(7, TEMPLATE, [(crmf.OLD_CERTIFICATE_ID, crmf.cert_id(NAME, 4711))])
REQUESTS = der.sequence(crmf.cert_req_msg(REQUEST, crmf.signature_proof(ALGORITHM, b"signature")))
MESSAGE = cmp.message(cmp.header(HEADER), cmp.body(Body.IR, REQUESTS), b"protection", [der.sequence(NAME)])


def test_a_message_is_read_as_it_was_written() -> None:
    found = cmp.read_message(MESSAGE)
    assert found.header == HEADER
    assert (found.body, found.content, found.protection) == (Body.IR, REQUESTS, b"protection")
    assert found.certificates == (der.sequence(NAME),)
    assert found.protected == cmp.protected_part(cmp.header(HEADER), cmp.body(Body.IR, REQUESTS))


def test_a_header_may_leave_out_all_that_is_optional() -> None:
    plain = PkiHeader(3, der.explicit(4, NAME), der.explicit(4, NAME))
    found = cmp.read_message(cmp.message(cmp.header(plain), cmp.body(Body.PKICONF, der.null()), None))
    assert found.header == plain
    assert (found.protection, found.certificates) == (None, ())


def test_a_request_is_read_as_it_was_written() -> None:
    (found,) = crmf.read_cert_req_messages(REQUESTS)
    assert (found.request_id, found.request_der) == (7, REQUEST)
    template = found.template
    assert (template.subject, template.public_key, template.issuer, template.serial) == (NAME, SPKI, NAME, 4711)
    assert template.validity == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC))
    assert found.proof is not None
    assert (found.proof.kind, found.proof.algorithm, found.proof.signature) == ("signature", ALGORITHM, b"signature")
    old = crmf.read_cert_id(found.control(crmf.OLD_CERTIFICATE_ID) or b"")
    assert (old.issuer, old.serial) == (NAME, 4711)


@pytest.mark.parametrize(
    ("proof", "kind", "method"),
    [
        (crmf.ra_verified(), "ra-verified", None),
        (crmf.encrypted_certificate_proof(), "key-encipherment", "encrypted-certificate"),
        (der.explicit(2, der.implicit(1, b"\x01")), "key-encipherment", "challenge"),
        (der.explicit(3, der.implicit(2, b"\x00mac")), "key-agreement", "mac"),
        (der.explicit(2, der.implicit(0, b"\x00")), "key-encipherment", "this-message"),
    ],
)
def test_every_kind_of_proof_is_told_from_the_others(proof: bytes, kind: str, method: str | None) -> None:
    (found,) = crmf.read_cert_req_messages(der.sequence(crmf.cert_req_msg(REQUEST, proof)))
    assert found.proof is not None
    assert (found.proof.kind, found.proof.method) == (kind, method)


def test_the_input_of_a_proof_is_what_was_signed() -> None:
    signed = der.sequence(der.explicit(0, der.explicit(4, NAME)), SPKI)
    inner = der.tlv(0xA0, der.read_tlv(signed).content) + ALGORITHM + der.bit_string(b"signature")
    (found,) = crmf.read_cert_req_messages(der.sequence(crmf.cert_req_msg(REQUEST, der.explicit(1, inner))))
    assert found.proof is not None
    assert found.proof.signed == signed
    assert crmf.read_signed_input(signed) == (der.explicit(4, NAME), SPKI)


def test_a_status_is_read_as_it_was_written() -> None:
    status = StatusInfo(Status.REJECTION, ("no",), frozenset({Failure.BAD_POP, Failure.DUPLICATE_CERT_REQ}))
    assert cmp.read_status_info(der.read_tlv(cmp.status_info(status))) == status
    found = cmp.read_error(cmp.error(status, ("details",)))
    assert found == StatusInfo(Status.REJECTION, ("no", "details"), status.failures)


def test_failures_are_called_what_the_standard_calls_them() -> None:
    named = {failure.label for failure in Failure}
    assert {"badAlg", "badMessageCheck", "badPOP", "transactionIdInUse", "signerNotTrusted", "badCertId"} <= named


def test_a_confirmation_is_read_as_it_was_written() -> None:
    entries = (
        CertStatus(b"hash", 0, None, None),
        CertStatus(b"other", -1, StatusInfo(Status.REJECTION), der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))),
    )
    assert cmp.read_cert_confirm(cmp.cert_confirm(entries)) == entries
    assert cmp.read_cert_confirm(der.sequence()) == ()


def test_polls_are_read_as_they_were_written() -> None:
    assert cmp.read_poll_request(cmp.poll_request([0, -1, 5])) == (0, -1, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MESSAGE[:-1],
        MESSAGE + b"\x00",
        cmp.message(cmp.header(HEADER), der.explicit(27, der.null()), None),
        cmp.message(cmp.header(HEADER), der.sequence(), None),
        MESSAGE.replace(der.bit_string(b"protection"), der.bit_string(b"protectio\x80", 7)),
        der.sequence(cmp.header(HEADER), cmp.body(Body.PKICONF, der.null()), der.explicit(2, der.null())),
        MESSAGE.replace(der.octet_string(bytes(16)), der.octet_string(bytes(15)) + b"\x05"),
        bytes(cmp.MAX_MESSAGE_OCTETS + 1),
    ],
    ids=["empty", "cut", "more", "kind", "no-body", "bits", "field", "garbled", "too-long"],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not valid DER"):
        cmp.read_message(data)


@pytest.mark.parametrize(
    "data",
    [
        cmp.message(cmp.header(HEADER), cmp.body(Body.PKICONF, der.null()), None, [der.sequence()] * 17),
        cmp.message(cmp.header(_with(transaction_id=bytes(129))), cmp.body(Body.PKICONF, der.null()), None),
        cmp.message(
            cmp.header(_with(information=(InfoTypeAndValue("1.2.3"), InfoTypeAndValue("1.2.3")))),
            cmp.body(Body.PKICONF, der.null()),
            None,
        ),
        cmp.message(cmp.header(_with(free_text=("x",) * 17)), cmp.body(Body.PKICONF, der.null()), None),
    ],
    ids=["certificates", "identifier", "repeated", "texts"],
)
def test_the_parts_of_a_message_have_limits(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not valid DER"):
        cmp.read_message(data)


@pytest.mark.parametrize(
    "content",
    [der.sequence(), der.sequence(*[crmf.cert_req_msg(REQUEST)] * 17), der.sequence(der.null()), der.null()],
    ids=["none", "many", "null", "no-sequence"],
)
def test_requests_have_limits(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="not valid DER"):
        crmf.read_cert_req_messages(content)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 40))
def test_a_message_that_was_damaged_anywhere_is_read_or_refused(damages: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(MESSAGE)
    for place, octet in damages:
        damaged[place] = octet
    _read(bytes(damaged[: len(damaged) - cut]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(Body)), st.binary(max_size=200))
def test_every_body_with_any_content_is_read_or_refused(body: Body, content: bytes) -> None:
    _read(cmp.message(cmp.header(HEADER), cmp.body(body, der.sequence(content)), None))
    _read(cmp.message(cmp.header(HEADER), der.explicit(body, content), None))


def _read(data: bytes) -> None:
    """Read a message and its body, or refuse them as DER that they are not."""
    readers = {
        Body.IR: crmf.read_cert_req_messages,
        Body.CR: crmf.read_cert_req_messages,
        Body.KUR: crmf.read_cert_req_messages,
        Body.CERTCONF: cmp.read_cert_confirm,
        Body.POLLREQ: cmp.read_poll_request,
        Body.RR: cmp.read_revocation_request,
        Body.GENM: cmp.read_information,
        Body.NESTED: cmp.read_nested,
        Body.ERROR: cmp.read_error,
    }
    refused = ""
    try:
        message = cmp.read_message(data)
        if message.body in readers:
            readers[message.body](message.content)
    except InvalidInput as error:
        refused = error.code
    assert refused in ("", "invalid-der")
