"""Messages that are malformed, mis-signed, badly encrypted or late, each with the failInfo of the standard."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st
from tests.enrollment.scep.conftest import CHALLENGE, Desk
from tests.support.scep_client import Device, rsa_key

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.enrollment.scep import messages
from intaglio.enrollment.scep.messages import MessageType
from intaglio.x509.cms.enveloping import envelop

BAD_ALG, BAD_MESSAGE_CHECK, BAD_REQUEST, BAD_TIME = "0", "1", "2", "3"


# ---- algorithms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc"])
async def test_answers_use_what_the_client_uses(desk: Desk, digest: str, cipher: str) -> None:
    reply = await desk.device().enrol(CHALLENGE, digest=digest, cipher=cipher)
    assert (reply.status, reply.digest, reply.cipher) == ("0", digest, cipher)


@pytest.mark.parametrize(("cipher", "switch"), [("3des-cbc", "3des"), ("des-cbc", "des")])
async def test_old_ciphers_are_bad_algorithms_unless_they_are_switched_on(desk: Desk, cipher: Any, switch: str) -> None:
    device = desk.device()
    assert (await device.enrol(CHALLENGE, cipher=cipher)).fail_info == BAD_ALG
    await desk.change(options={"legacy": [switch]})
    reply = await device.enrol(CHALLENGE, cipher=cipher)
    assert (reply.status, reply.cipher) == ("0", cipher)


async def test_sha_1_is_a_bad_algorithm_unless_it_is_switched_on(desk: Desk) -> None:
    device = desk.device()
    assert (await device.enrol(CHALLENGE, digest="sha1")).fail_info == BAD_ALG
    await desk.change(options={"legacy": ["sha1"]})
    reply = await device.enrol(CHALLENGE, digest="sha1")
    assert (reply.status, reply.digest) == ("0", "sha256")


async def test_a_key_that_no_answer_can_be_encrypted_for_is_a_bad_algorithm(desk: Desk) -> None:
    device = desk.device(ed25519.Ed25519PrivateKey.generate())
    assert (await device.enrol(CHALLENGE, digest=None)).fail_info == BAD_ALG


# ---- signature, encryption, content ----------------------------------------------------------------------------------


async def test_a_signature_that_does_not_hold_is_a_bad_message_check(desk: Desk) -> None:
    device = desk.device()
    message = bytearray(await device.message(device.request(challenge=CHALLENGE)))
    message[-1] ^= 1
    assert (await device.send(bytes(message))).fail_info == BAD_MESSAGE_CHECK


async def test_a_message_for_another_recipient_is_a_bad_message_check(desk: Desk) -> None:
    device = desk.device()
    reply = await device.enrol(CHALLENGE, recipient=desk.device(rsa_key(9)).self_signed())
    assert reply.fail_info == BAD_MESSAGE_CHECK


async def test_nobody_can_tell_bad_encryption_from_bad_content(desk: Desk) -> None:
    device = desk.device()
    whole = envelop(b"x" * 200, (await device.office())[0])
    damaged = whole[:-1] + bytes((whole[-1] ^ 1,))
    nonsense = await device.send(await device.message(b"this is no request"))
    undecryptable = await device.send(await device.message(damaged, encrypt=False))
    assert nonsense.fail_info == undecryptable.fail_info == BAD_MESSAGE_CHECK
    assert nonsense.text == undecryptable.text


@pytest.mark.parametrize("kind", [3, 18, 99, None, "nineteen"])
async def test_an_unknown_type_of_message_is_a_bad_request(desk: Desk, kind: Any) -> None:
    device = desk.device()
    reply = await device.send(await device.message(device.request(challenge=CHALLENGE), kind))
    assert reply.fail_info == BAD_REQUEST


@pytest.mark.parametrize("kind", [MessageType.CERT_POLL, MessageType.GET_CERT, MessageType.GET_CRL])
async def test_nonsense_in_a_query_is_a_bad_message_check(desk: Desk, kind: MessageType) -> None:
    device = desk.device()
    assert (await device.send(await device.message(b"nonsense", kind))).fail_info == BAD_MESSAGE_CHECK


async def test_a_missing_nonce_is_forgiven(desk: Desk) -> None:
    reply = await desk.device().enrol(CHALLENGE, nonce=None)
    assert (reply.status, reply.recipient_nonce) == ("0", None)


@pytest.mark.parametrize("transaction", [None, b"x" * 300])
async def test_without_a_transaction_there_is_nothing_to_answer_to(desk: Desk, transaction: bytes | None) -> None:
    device = desk.device()
    answer = await device.post(await device.message(device.request(), transaction=transaction))
    assert answer.status_code == 400
    assert "transaction" in answer.text


async def test_the_transaction_comes_back_in_the_type_it_came_in(desk: Desk) -> None:
    device = desk.device()
    reply = await device.enrol(CHALLENGE, transaction="Gerät".encode())
    assert reply.transaction == "Gerät".encode()


# ---- time ------------------------------------------------------------------------------------------------------------


async def test_the_clock_of_a_device_is_looked_at_only_where_somebody_wants_that(desk: Desk) -> None:
    device, early = desk.device(), clock.now() - timedelta(hours=2)
    assert (await device.enrol(CHALLENGE, at=early)).status == "0"
    await desk.change(options={"clock_tolerance_minutes": 60})
    assert (await device.enrol(CHALLENGE, at=early)).fail_info == BAD_TIME
    assert (await device.enrol(CHALLENGE, at=None)).fail_info == BAD_TIME
    assert (await device.enrol(CHALLENGE, at=clock.now())).status == "0"


# ---- any octets ------------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=400))
def test_any_octets_are_a_message_or_refused(data: bytes) -> None:
    for reader in (messages.read_message, messages.read_issuer_and_serial, messages.read_issuer_and_subject):
        _read_or_refuse(reader, data)


@given(place=st.integers(0, 2**16), lost=st.integers(0, 8), new=st.binary(max_size=8))
def test_any_damage_is_a_message_or_refused(message: bytes, place: int, lost: int, new: bytes) -> None:
    start = place % len(message)
    _read_or_refuse(messages.read_message, message[:start] + new + message[start + lost :])


@pytest.fixture(scope="module")
def message() -> bytes:
    """A whole message."""
    device = Device(None, "", rsa_key())  # type: ignore[arg-type]  # it sends nothing
    content = device.request(challenge=CHALLENGE)
    return asyncio.run(device.message(content, recipient=device.self_signed(), at=clock.now()))


def _read_or_refuse(reader: Any, data: bytes) -> None:
    code = ""
    try:
        reader(data)
    except InvalidInput as error:
        code = error.code
    assert code in ("", "cms-unparsable", "scep-transaction-missing")
