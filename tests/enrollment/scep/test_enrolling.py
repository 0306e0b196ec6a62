"""A device asks for its first certificate: who may, what it is told, and what comes of asking twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import func, select, update
from tests.enrollment.scep.conftest import CHALLENGE, SOURCE, Call, Desk
from tests.support.scep_client import rsa_key, transaction_of

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.models import ca as cas
from intaglio.authority.models import certificate as certificates
from intaglio.core import clock
from intaglio.enrollment import pipeline
from intaglio.enrollment.challenges import derived
from intaglio.enrollment.credentials import Bound
from intaglio.enrollment.scep import issuing, models
from intaglio.enrollment.values import Applicant


async def issued(desk: Desk) -> int:
    """How many certificates SCEP has given."""
    async with desk.enrollment.database.read() as view:
        return int(await view.scalar(select(func.count()).where(certificates.c.channel == "scep")) or 0)


async def revoke(desk: Desk, serial: bytes, reason: RevocationReason = RevocationReason.CESSATION_OF_OPERATION) -> None:
    applicant = Applicant("operator", "none", SOURCE)
    await pipeline.revoke(desk.enrollment, desk.endpoint, applicant, serial, reason)


async def test_a_device_with_the_challenge_gets_its_certificate(desk: Desk) -> None:
    device = desk.device()
    reply = await device.enrol(CHALLENGE, dns=["device-1.example"], transaction=b"tx-1", nonce=b"n" * 16)
    info = reply.certificate
    assert info.subject.rfc4514 == "CN=device-1"
    assert info.san is not None
    assert info.san.text == ["dNSName=device-1.example"]
    assert info.key_usage == {"digitalSignature", "keyEncipherment"}
    assert info.verify_signed_by((await device.office())[1].spki)
    assert (reply.transaction, reply.recipient_nonce, len(reply.sender_nonce)) == (b"tx-1", b"n" * 16, 16)


async def test_an_elliptic_key_gets_its_answer_encrypted_too(desk: Desk) -> None:
    device = desk.device(ec.generate_private_key(ec.SECP256R1()))
    assert (await device.enrol(CHALLENGE)).certificate.subject.rfc4514 == "CN=device-1"


@pytest.mark.parametrize("profile", ["digital-signature", "key-encipherment", "non-repudiation"])
async def test_the_profile_of_the_url_decides_about_key_usage(new_desk: Call, profile: str) -> None:
    desk = await new_desk(profile=f"scep-{profile}")
    desk = Desk(desk.enrollment, desk.endpoint, desk.http, f"/scep/main/demo~issuing/scep-{profile}")
    usages = {
        "digital-signature": {"digitalSignature"},
        "key-encipherment": {"keyEncipherment"},
        "non-repudiation": {"digitalSignature", "nonRepudiation"},
    }
    assert (await desk.device().enrol(CHALLENGE)).certificate.key_usage == usages[profile]


# ---- challenges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("challenge", ["wrong", CHALLENGE + " ", "", None])
async def test_a_wrong_or_missing_challenge_is_refused_and_audited(desk: Desk, challenge: str | None) -> None:
    reply = await desk.device().enrol(challenge)
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert reply.text is not None
    assert reply.certificates == ()
    assert await issued(desk) == 0
    (refusal,) = await desk.audited("scep.enroll")
    assert refusal["code"] in ("credential-unknown", "scep-challenge-missing")


async def test_an_empty_challenge_is_enough_only_where_somebody_wants_that(new_desk: Call) -> None:
    desk = await new_desk(options={"empty_challenge": True})
    assert (await desk.device().enrol(None)).status == "0"
    assert (await desk.device().enrol("wrong")).fail_info == "2"


async def test_several_static_challenges_hold_at_the_same_time(desk: Desk) -> None:
    newer = await desk.credential(name="newer")
    assert (await desk.device(rsa_key(1)).enrol(newer)).status == "0"
    assert (await desk.device(rsa_key(2)).enrol(CHALLENGE)).status == "0"


async def test_a_one_time_challenge_is_for_one_transaction_which_may_repeat_it(desk: Desk) -> None:
    challenge = await desk.credential("one-time")
    device, other = desk.device(rsa_key(1)), desk.device(rsa_key(2))
    first = await device.enrol(challenge, transaction=b"one")
    again = await device.enrol(challenge, transaction=b"one")
    assert first.certificate.der == again.certificate.der
    assert (await device.enrol(challenge, transaction=b"two")).fail_info == "2"
    assert (await other.enrol(challenge, transaction=b"one")).fail_info == "2"


async def test_a_challenge_that_is_bound_to_a_name_is_good_for_no_other(desk: Desk) -> None:
    challenge = await desk.credential(bound=Bound(subject="CN=device-7"))
    assert (await desk.device().enrol(challenge, subject="CN=device-8")).fail_info == "2"
    assert (await desk.device().enrol(challenge, subject="CN=device-7")).status == "0"


async def test_a_derived_challenge_is_good_until_its_end_and_once(desk: Desk) -> None:
    secret = (await desk.credential("derived")).encode()
    good = derived(secret, desk.endpoint.name, clock.now() + timedelta(hours=1), "CN=device-1")
    late = derived(secret, desk.endpoint.name, clock.now() - timedelta(hours=1), "CN=device-1")
    assert (await desk.device().enrol(late)).fail_info == "2"
    assert (await desk.device().enrol(good, subject="CN=device-2")).fail_info == "2"
    assert (await desk.device(rsa_key(1)).enrol(good)).status == "0"
    assert (await desk.device(rsa_key(2)).enrol(good)).fail_info == "2"


async def test_who_guesses_too_often_is_told_to_come_later(desk: Desk) -> None:
    device = desk.device()
    for _ in range(10):
        assert (await device.enrol("guess")).status == "2"
    answer = await device.post(await device.message(device.request(challenge="guess")))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


# ---- transactions ----------------------------------------------------------------------------------------------------


async def test_the_same_message_gets_the_same_certificate_also_from_several_processes_at_once(desk: Desk) -> None:
    device = desk.device()
    message = await device.message(device.request(challenge=CHALLENGE))
    replies = await asyncio.gather(*(device.send(message) for _ in range(5)))
    assert len({reply.certificate.der for reply in replies}) == 1
    assert await issued(desk) == 1


async def test_a_transaction_belongs_to_the_key_that_began_it(desk: Desk) -> None:
    assert (await desk.device(rsa_key(1)).enrol(CHALLENGE, transaction=b"42")).status == "0"
    taken = await desk.device(rsa_key(2)).enrol(CHALLENGE, transaction=b"42")
    assert (taken.status, taken.fail_info) == ("2", "2")
    assert await issued(desk) == 1


async def test_a_client_whose_transaction_is_its_key_may_ask_for_something_else(desk: Desk) -> None:
    device, name = desk.device(), transaction_of(rsa_key())
    first = await device.enrol(CHALLENGE, dns=["a.example"], transaction=name)
    second = await device.enrol(CHALLENGE, dns=["b.example"], transaction=name)
    assert first.certificate.serial != second.certificate.serial
    assert second.certificate.san is not None
    assert second.certificate.san.text == ["dNSName=b.example"]


async def test_whose_certificate_was_revoked_gets_another_one_in_the_same_transaction(desk: Desk) -> None:
    device, name = desk.device(), transaction_of(rsa_key())
    first = (await device.enrol(CHALLENGE, transaction=name)).certificate
    await revoke(desk, first.serial)
    second = (await device.enrol(CHALLENGE, transaction=name)).certificate
    assert second.serial != first.serial
    assert (await device.enrol(CHALLENGE, transaction=name)).certificate.serial == second.serial


async def set_outcome(desk: Desk, **values: Any) -> None:
    """Have the only transaction end as if its process had been killed."""
    async with desk.enrollment.database.transaction() as tx:
        await tx.execute(update(models.transaction).values(certificate_id=None, **values))


async def test_a_certificate_whose_process_died_before_it_could_answer_is_found_again(desk: Desk) -> None:
    device = desk.device()
    message = await device.message(device.request(challenge=CHALLENGE, dns=["a.example"]))
    first = await device.send(message)
    await set_outcome(desk, holder="the dead", held_until=clock.now() - timedelta(seconds=1))
    assert (await device.send(message)).certificate.der == first.certificate.der
    assert (await device.send(message)).certificate.der == first.certificate.der
    assert await issued(desk) == 1


async def test_who_finds_his_request_under_way_elsewhere_comes_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuing, "_PATIENCE", 0.1)
    device = desk.device()
    message = await device.message(device.request(challenge=CHALLENGE))
    await device.send(message)
    await set_outcome(desk, holder="another", held_until=clock.now() + timedelta(seconds=30))
    answer = await device.post(message)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_transaction_that_was_refused_may_be_tried_again(desk: Desk) -> None:
    device = desk.device()
    async with desk.enrollment.database.transaction() as tx:
        await tx.execute(update(cas).where(cas.c.name == "issuing").values(state="suspended"))
    await desk.enrollment.authority.reload()
    assert (await device.enrol(CHALLENGE, transaction=b"tx")).fail_info == "2"
    async with desk.enrollment.database.transaction() as tx:
        await tx.execute(update(cas).where(cas.c.name == "issuing").values(state="active"))
    await desk.enrollment.authority.reload()
    assert (await device.enrol(CHALLENGE, transaction=b"tx")).status == "0"


# ---- what is asked for -----------------------------------------------------------------------------------------------


async def test_a_message_signed_with_another_key_is_only_passed_on_where_somebody_wants_that(desk: Desk) -> None:
    connector = desk.device(rsa_key(1))
    relayed = connector.request(challenge=CHALLENGE, key=rsa_key(2))
    refused = await connector.send(await connector.message(relayed))
    assert (refused.fail_info, refused.certificates) == ("2", ())
    await desk.change(options={"relayed_requests": True})
    granted = await connector.send(await connector.message(relayed))
    numbers = rsa_key(2).public_key().public_numbers()
    assert isinstance(granted.certificate.public_key, rsa.RSAPublicKey)
    assert granted.certificate.public_key.public_numbers() == numbers


async def test_usages_beyond_the_profile_are_left_out_and_audited_or_refused(desk: Desk) -> None:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    granted = await desk.device(rsa_key(1)).enrol(CHALLENGE, extensions=[usage])
    assert granted.certificate.key_usage == {"digitalSignature", "keyEncipherment"}
    assert "nonRepudiation" in str((await desk.audited("certificate.issue"))[-1]["warnings"])
    await desk.change(options={"usage_mismatch": "refuse"})
    refused = await desk.device(rsa_key(2)).enrol(CHALLENGE, extensions=[usage])
    assert refused.fail_info == "2"
    assert refused.text is not None
    assert "nonRepudiation" in refused.text


async def test_a_request_that_is_not_signed_by_its_key_is_refused(desk: Desk) -> None:
    device = desk.device()
    request = device.request(challenge=CHALLENGE)
    reply = await device.send(await device.message(request[:-1] + bytes((request[-1] ^ 1,))))
    assert (reply.status, reply.fail_info) == ("2", "1")


async def test_a_weak_key_is_refused_as_a_bad_algorithm(desk: Desk) -> None:
    device = desk.device()
    small = rsa.generate_private_key(65_537, 1024)
    reply = await device.send(await device.message(device.request(challenge=CHALLENGE, key=small)))
    assert (reply.status, reply.fail_info) == ("2", "0")


async def test_an_endpoint_that_is_switched_off_meanwhile_gives_nothing(desk: Desk) -> None:
    device = desk.device()
    message = await device.message(device.request(challenge=CHALLENGE))
    await desk.change(enabled=False)
    assert (await device.post(message)).status_code == 404
    assert await issued(desk) == 0


async def test_the_principal_of_a_certificate_is_the_device(desk: Desk) -> None:
    info = (await desk.device().enrol(CHALLENGE)).certificate
    stored = await pipeline.presented(desk.enrollment, desk.endpoint, info.der)
    assert stored is not None
    assert (stored.channel, stored.requester) == ("scep", "CN=device-1")
