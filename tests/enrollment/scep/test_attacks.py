"""What somebody tries who listens to others, or has a challenge, or a certificate, that is good for something else."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.enrollment.scep.conftest import CHALLENGE, Call, Desk
from tests.enrollment.scep.test_enrolling import revoke
from tests.support.scep_client import Reply, rsa_key

from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.enrollment.challenges import derived
from intaglio.enrollment.credentials import CredentialKind
from intaglio.enrollment.scep.messages import MessageType
from intaglio.x509.cms.enveloped import read_enveloped
from intaglio.x509.cms.enveloping import envelop

ENCRYPTED = [
    MessageType.PKCS_REQ,
    MessageType.RENEWAL_REQ,
    MessageType.CERT_POLL,
    MessageType.GET_CERT,
    MessageType.GET_CRL,
    99,
]


def changed(enveloped: bytes, encrypted: bytes) -> bytes:
    """A message of somebody else with another ciphertext of the same length under the same content key."""
    return enveloped.replace(read_enveloped(enveloped).encrypted, encrypted)


def told(reply: Reply) -> tuple[str, str | None, str | None]:
    return reply.status, reply.fail_info, reply.text


@pytest.mark.parametrize("kind", ENCRYPTED)
async def test_nobody_learns_whether_a_changed_message_of_another_was_padded_well(
    desk: Desk, kind: MessageType | int
) -> None:
    """A padding oracle would read the challenge password in a message that somebody overheard."""
    victim, attacker = desk.device(rsa_key(1)), desk.device(rsa_key(2))
    overheard = envelop(victim.request(challenge=CHALLENGE), (await attacker.office())[0])
    encrypted = read_enveloped(overheard).encrypted
    # The last block decrypts to the padding: one changed bit before it destroys that, one far before it the content.
    bad_padding = encrypted[:-17] + bytes([encrypted[-17] ^ 0x80]) + encrypted[-16:]
    good_padding = encrypted[:-40] + bytes([encrypted[-40] ^ 0x80]) + encrypted[-39:]
    garbage = bytes([encrypted[0] ^ 0x80]) + encrypted[1:]
    found = {
        told(await attacker.send(await attacker.message(changed(overheard, each), kind, encrypt=False)))
        for each in (bad_padding, good_padding, garbage)
    }
    assert len(found) == 1, found
    assert found.pop()[0] == "2"


async def test_a_one_time_challenge_gives_one_certificate_and_no_other(desk: Desk) -> None:
    challenge, device = await desk.credential("one-time"), desk.device(rsa_key(1))
    assert (await device.enrol(challenge, transaction=b"one")).status == "0"
    for other in ({"subject": "CN=another"}, {"dns": ["another.example"]}):
        assert (await device.enrol(challenge, transaction=b"one", **other)).fail_info == "2"


async def test_a_derived_challenge_gives_one_certificate_and_no_other(desk: Desk) -> None:
    secret, device = (await desk.credential("derived")).encode(), desk.device(rsa_key(1))
    good = derived(secret, desk.endpoint.name, clock.now() + timedelta(hours=1))
    assert (await device.enrol(good, transaction=b"one")).status == "0"
    assert (await device.enrol(good, transaction=b"one", subject="CN=another")).fail_info == "2"


async def test_a_one_time_challenge_is_not_repeated_once_its_certificate_was_revoked(desk: Desk) -> None:
    """Whoever overheard the message could send it again, with the challenge of somebody whose key was stolen."""
    challenge, device = await desk.credential("one-time"), desk.device(rsa_key(1))
    message = await device.message(device.request(challenge=challenge))
    first = (await device.send(message)).certificate
    await revoke(desk, first.serial)
    assert (await device.send(message)).fail_info == "2"


async def test_a_one_time_challenge_is_not_repeated_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    challenge, device = await desk.credential("one-time"), desk.device(rsa_key(1))
    message = await device.message(device.request(challenge=challenge))
    assert (await device.send(message)).status == "0"
    later = clock.now() + timedelta(days=15)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (await device.send(message)).fail_info == "2"


async def test_a_request_of_an_unknown_version_is_refused_as_any_other(desk: Desk) -> None:
    device = desk.device()
    request = device.request(challenge=CHALLENGE).replace(b"\x02\x01\x00\x30", b"\x02\x01\x16\x30", 1)
    assert (await device.send(await device.message(request))).fail_info == "1"


@pytest.mark.parametrize("name", [b"a\0b", b"\xff\xfe", b"\xed\xa0\x80"], ids=["nul", "no-utf8", "surrogate"])
async def test_a_transaction_may_be_called_whatever_its_client_likes(new_desk: Call, name: bytes) -> None:
    desk = await new_desk(approval="manual")
    waiting = await desk.device().enrol(CHALLENGE, transaction=name)
    assert (waiting.status, waiting.transaction) == ("3", name)


async def test_a_message_that_was_overheard_does_not_certify_a_compromised_key_again(desk: Desk) -> None:
    device = desk.device()
    message = await device.message(device.request(challenge=CHALLENGE))
    first = (await device.send(message)).certificate
    await revoke(desk, first.serial, RevocationReason.KEY_COMPROMISE)
    refused = await device.send(message)
    assert (refused.status, refused.fail_info) == ("2", "2")
    assert refused.text is not None
    assert "compromised" in refused.text


@pytest.mark.parametrize("kind", ["one-time", "derived"])
async def test_of_all_who_show_a_challenge_at_once_one_gets_a_certificate(desk: Desk, kind: CredentialKind) -> None:
    secret = await desk.credential(kind)
    if kind == "derived":
        secret = derived(secret.encode(), desk.endpoint.name, clock.now() + timedelta(hours=1))
    device = desk.device()
    messages = [await device.message(device.request(f"CN=device-{n}", challenge=secret)) for n in range(5)]
    found = await asyncio.gather(*(device.send(message) for message in messages))
    assert sorted(reply.status for reply in found) == ["0", "2", "2", "2", "2"]
