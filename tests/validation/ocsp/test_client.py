"""Asking responders as a relying party: what is believed, and what a hostile one can do."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.support.crl_server import FileServer
from tests.support.foreign import ForeignCa

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.validation.ocsp import client
from intaglio.validation.ocsp.client import Question, Verdict
from intaglio.x509.certificates import read_certificate


def _answer(ca: ForeignCa, leaf: x509.Certificate, made: datetime, *, ends: bool, nonce: bytes = b"") -> bytes:
    """An answer that a certificate is good, signed by its CA."""
    builder = ocsp.OCSPResponseBuilder().add_response(
        leaf, ca.certificate, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, made, made + timedelta(days=1) if ends else None,
        None, None,
    )  # fmt: skip
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), False)
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, ca.certificate)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _judged(ca: ForeignCa, question: Question, answer: bytes, later: timedelta) -> Verdict:
    return client.judge(question, answer, [], clock.now() + later)


@pytest.mark.parametrize(
    ("ends", "with_nonce", "later", "verified"),
    [
        (False, False, timedelta(0), True),
        (False, False, timedelta(hours=1), False),  # kept by somebody and given out when it was wanted
        (False, True, timedelta(hours=1), True),
        (True, False, timedelta(hours=1), True),
        (True, False, timedelta(days=2), False),
    ],
)
def test_an_answer_that_may_be_an_old_one_is_not_believed(
    ends: bool, with_nonce: bool, later: timedelta, verified: bool
) -> None:
    ca = ForeignCa()
    leaf = ca.leaf()
    question = client.ask_about(read_certificate(ca.der), leaf.serial_number.to_bytes(2, "big"))
    now = clock.now().replace(microsecond=0)
    answer = _answer(ca, leaf, now, ends=ends, nonce=question.nonce if with_nonce else b"")
    verdict = _judged(ca, question, answer, later)
    assert verdict.status == "good"
    assert verdict.verified is verified, verdict.problems


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_an_endless_or_compressed_answer_is_not_taken_in(coding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Encoding: {coding}\r\n\r\n"
    async with FileServer() as server:
        server.answers["ocsp"] = head.encode() + bytes(2 << 20)
        with pytest.raises(InvalidInput) as refused:
            await asyncio.to_thread(client.send, server.url("ocsp"), b"a request")
    assert refused.value.code == "ocsp-answer-unusable"
