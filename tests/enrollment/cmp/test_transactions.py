"""Transactions of several messages: confirmed, rejected, waited for, over; on one process or another."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from tests.enrollment.cmp.conftest import SOURCE, Desk, NewDesk
from tests.support.authority import OPERATOR
from tests.support.cmp_client import certificate_request
from tests.support.foreign import ForeignCa

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.cmp import Body, Status, StatusInfo
from intaglio.authority.certificates import StoredCertificate
from intaglio.core import clock
from intaglio.enrollment import pipeline, request_administration
from intaglio.enrollment.cmp import transactions, upkeep
from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.cmp.service import respond
from intaglio.enrollment.credential_administration import NewCredential, create_credential
from intaglio.enrollment.models import request
from intaglio.enrollment.values import Granted, Protocol, Waiting
from intaglio.x509.certificates import pem
from intaglio.x509.extensions import REASON_CODE, extension


async def stored(desk: Desk, certificate: bytes | x509.Certificate | None) -> StoredCertificate:
    """A certificate as it is recorded now."""
    octets = certificate.public_bytes(Encoding.DER) if isinstance(certificate, x509.Certificate) else certificate
    found = await pipeline.presented(desk.enrollment, desk.endpoint, octets or b"")
    assert found is not None
    return found


@pytest.mark.parametrize("status", [None, StatusInfo(Status.ACCEPTED), StatusInfo(Status.GRANTED_WITH_MODIFICATIONS)])
async def test_a_certificate_that_is_confirmed_stays_valid(new_desk: NewDesk, status: StatusInfo | None) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    assert (await client.confirm(answer, status=status)).body is Body.PKICONF
    assert (await stored(desk, answer.certificate)).status == "valid"


async def test_a_certificate_that_the_client_rejects_is_revoked(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    rejected = await client.confirm(answer, status=StatusInfo(Status.REJECTION))
    assert rejected.body is Body.PKICONF
    assert (await stored(desk, answer.certificate)).status == "revoked"


async def test_a_confirmation_of_nothing_rejects_the_certificate(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    assert (await client.ask(Body.CERTCONF, cmp.cert_confirm(()))).body is Body.PKICONF
    assert (await stored(desk, answer.certificate)).status == "revoked"


async def test_a_confirmation_with_the_wrong_hash_is_refused_and_the_certificate_is_revoked(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    assert (await client.confirm(answer, cert_hash=bytes(32))).failures == {"badCertId"}
    assert (await stored(desk, answer.certificate)).status == "revoked"


@pytest.mark.parametrize(
    ("oid", "name"), [("2.16.840.1.101.3.4.2.1", "sha256"), ("2.16.840.1.101.3.4.2.3", "sha512")], ids=["256", "512"]
)
async def test_a_confirmation_may_name_its_hash(new_desk: NewDesk, oid: str, name: str) -> None:
    desk = await new_desk()
    client = desk.client(version=3)
    answer = await client.request()
    digest = hashlib.new(name, answer.certificate or b"").digest()
    algorithm = der.sequence(der.oid(oid))
    assert (await client.confirm(answer, cert_hash=digest, hash_algorithm=algorithm)).body is Body.PKICONF


async def test_a_certificate_is_confirmed_once(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    await client.confirm(answer)
    assert (await client.confirm(answer)).failures == {"certConfirmed"}


async def test_what_needs_no_confirmation_gets_none(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client(implicit=True)
    answer = await client.request()
    assert answer.message.header.info("1.3.6.1.5.5.7.4.13") is not None
    assert (await client.confirm(answer)).failures == {"certConfirmed"}
    assert (await stored(desk, answer.certificate)).status == "valid"


async def test_confirmation_is_demanded_where_the_endpoint_says_so(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"implicit_confirm": False})
    client = desk.client(implicit=True)
    answer = await client.request()
    assert answer.message.header.info("1.3.6.1.5.5.7.4.13") is None
    assert answer.message.header.info("1.3.6.1.5.5.7.4.14") is not None
    assert (await client.confirm(answer)).body is Body.PKICONF


async def test_a_confirmation_has_to_answer_our_last_message(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    client.last_nonce = bytes(16)
    assert (await client.confirm(answer)).failures == {"badRecipientNonce"}


async def test_nobody_confirms_for_somebody_else(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    other = desk.client(certificate=await desk.client().enrol(key=key), key=key)
    client = desk.client()
    answer = await client.request()
    other.transaction_id, other.last_nonce = client.transaction_id, client.last_nonce
    assert (await other.confirm(answer)).failures == {"badRequest"}
    assert (await stored(desk, answer.certificate)).status == "valid"
    assert (await client.begin().ask(Body.CERTCONF, cmp.cert_confirm(()))).failures == {"badRequest"}


async def test_two_messages_cannot_begin_the_same_transaction(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    found = await asyncio.gather(*(client.request(subject=f"CN=device-{n}") for n in range(5)))
    assert sorted(len(each.failures) for each in found) == [0, 1, 1, 1, 1]
    assert {failure for each in found for failure in each.failures} == {"transactionIdInUse"}


async def test_what_somebody_signed_is_not_repeated_at_another_endpoint(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    client = desk.client(certificate=await desk.client().enrol(key=key), key=key, implicit=True)
    content, _ = certificate_request()
    message = client.message(Body.CR, content)
    assert (await client.post(message)).certificate is not None
    issuer = pem((await desk.enrollment.authority.current()).ca("demo~issuing").certificate.der)
    other = await new_desk(profile="cmp-non-repudiation", options={"trusted": [issuer]})
    client.send = other.send
    assert (await client.post(message)).failures == {"transactionIdInUse"}


async def test_two_parties_may_choose_the_same_id(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    other = desk.client(certificate=await desk.client().enrol(key=key), key=key, implicit=True)
    client = desk.client(implicit=True, transaction_id=other.transaction_id)
    assert (await client.request()).certificate is not None
    assert (await other.request(Body.CR)).certificate is not None


async def test_a_certificate_is_not_confirmed_and_revoked_at_once(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await new_desk(options={"confirm_within": 60})
    client = desk.client()
    answer = await client.request()
    ending = transactions.end_unconfirmed

    async def too_late(*arguments: Any, **more: Any) -> None:
        later = clock.now() + timedelta(seconds=61)
        with monkeypatch.context() as patch:
            patch.setattr(clock, "now", lambda: later)
            assert await upkeep.end_overdue(desk.enrollment) == 1
        await ending(*arguments, **more)

    monkeypatch.setattr(transactions, "end_unconfirmed", too_late)
    assert (await client.confirm(answer)).failures == {"badRequest"}
    assert (await stored(desk, answer.certificate)).status == "revoked"


async def test_another_process_goes_on_with_a_transaction(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request()
    elsewhere = Cmp(desk.enrollment)

    async def send(message: bytes) -> bytes:
        return (await respond(elsewhere, desk.endpoint, message, SOURCE)).body

    client.send = send
    assert (await client.confirm(answer)).body is Body.PKICONF


@pytest.mark.parametrize(("option", "becomes"), [("revoke", "revoked"), ("keep", "valid")])
async def test_a_confirmation_that_comes_too_late_is_refused(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch, option: str, becomes: str
) -> None:
    desk = await new_desk(options={"confirm_within": 60, "unconfirmed": option})
    client = desk.client()
    answer = await client.request()
    assert await upkeep.end_overdue(desk.enrollment) == 0
    later = clock.now() + timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (await client.confirm(answer)).failures == {"badRequest"}
    assert await upkeep.end_overdue(desk.enrollment) == 1
    assert (await stored(desk, answer.certificate)).status == becomes
    assert await upkeep.end_overdue(desk.enrollment) == 0


async def test_what_broke_off_between_issue_and_note_is_revoked_in_the_end(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await new_desk(options={"confirm_within": 60})
    issued: list[bytes] = []
    whole = pipeline.apply

    async def then_die(*arguments: Any) -> Granted | Waiting:
        outcome = await whole(*arguments)
        assert isinstance(outcome, Granted)
        issued.append(outcome.certificate)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "apply", then_die)
    with pytest.raises(KeyboardInterrupt):
        await desk.client().request()
    later = clock.now() + timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert await upkeep.end_overdue(desk.enrollment) == 1
    assert (await stored(desk, issued[0])).status == "revoked"


async def test_only_so_many_transactions_are_under_way(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"transactions": 2})
    clients = [desk.client() for _ in range(3)]
    answers = [await client.request() for client in clients]
    assert [each.failures for each in answers] == [set(), set(), {"systemUnavail"}]
    await clients[0].confirm(answers[0])
    assert (await clients[2].begin().request()).certificate is not None


async def test_without_transactions_only_implicit_confirmation_works(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"transactions": 0})
    assert (await desk.client().request()).failures == {"badRequest"}
    assert (await desk.client(implicit=True).request()).certificate is not None


async def test_an_id_that_is_over_is_forgotten_in_the_end(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await new_desk()
    client = desk.client(implicit=True)
    await client.request()
    await upkeep.clean(desk.enrollment)
    assert (await client.request()).failures == {"transactionIdInUse"}
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    await upkeep.clean(desk.enrollment)
    assert (await client.request()).certificate is not None


# ---- approval --------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def manual(new_desk: NewDesk) -> Desk:
    return await new_desk(approval="manual", options={"check_after": 7})


@pytest.mark.parametrize("implicit", [True, False])
async def test_a_request_waits_until_somebody_approves(manual: Desk, implicit: bool) -> None:
    client = manual.client(implicit=implicit)
    answer = await client.request(request_id=3)
    assert (answer.body, answer.status, answer.certificate) == (Body.IP, Status.WAITING, None)
    polled = await client.ask(Body.POLLREQ, cmp.poll_request([3]))
    assert polled.body is Body.POLLREP
    reader = der.Reader(der.children(der.read_tlv(polled.message.content).content)[0].content)
    assert [der.decode_integer(reader.read(der.INTEGER).content) for _ in range(2)] == [3, 7]
    await decide(manual, "approve")
    granted = await client.ask(Body.POLLREQ, cmp.poll_request([3]))
    assert (granted.body, granted.status, granted.request_id) == (Body.IP, Status.ACCEPTED, 3)
    confirmed = await client.confirm(granted)
    assert confirmed.failures == {"certConfirmed"} if implicit else confirmed.body is Body.PKICONF
    assert (await stored(manual, granted.certificate)).status == "valid"


async def test_a_request_that_is_rejected_is_told_so(manual: Desk) -> None:
    client = manual.client()
    await client.request()
    await decide(manual, "reject")
    answer = await client.ask(Body.POLLREQ, cmp.poll_request([0]))
    assert (answer.status, answer.failures) == (Status.REJECTION, {"notAuthorized"})
    assert (await client.ask(Body.POLLREQ, cmp.poll_request([0]))).failures == {"badRequest"}


async def test_a_poll_is_about_the_request_that_waits(manual: Desk) -> None:
    client = manual.client()
    assert (await client.ask(Body.POLLREQ, cmp.poll_request([0]))).failures == {"badRequest"}
    await client.begin().request()
    assert (await client.ask(Body.POLLREQ, cmp.poll_request([1]))).failures == {"badRequest"}


async def decide(desk: Desk, how: str) -> None:
    async with desk.enrollment.database.read() as view:
        waiting = await view.scalar(select(request.c.id).where(request.c.state == "pending"))
    if how == "approve":
        await request_administration.approve_request(desk.enrollment, OPERATOR, waiting)
    else:
        await request_administration.reject_request(desk.enrollment, OPERATOR, waiting, "not one of ours")


# ---- revocation ------------------------------------------------------------------------------------------------------


def revocation(certificate: x509.Certificate, reason: int = 0, *extra: bytes) -> bytes:
    """RevReqContent for one certificate."""
    template = crmf.cert_template(issuer=certificate.issuer.public_bytes(), serial=certificate.serial_number)
    entry = extension(REASON_CODE, False, der.enumerated(reason))
    return der.sequence(der.sequence(template, der.sequence(entry, *extra)))


async def holder(desk: Desk) -> tuple[Any, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = await desk.client().enrol(key=key)
    return desk.client(certificate=certificate, key=key), certificate


@pytest.mark.parametrize(("reason", "status"), [(0, "revoked"), (1, "revoked"), (6, "held")])
async def test_a_holder_revokes_a_certificate(new_desk: NewDesk, reason: int, status: str) -> None:
    desk = await new_desk()
    client, certificate = await holder(desk)
    answer = await client.ask(Body.RR, revocation(certificate, reason))
    assert (answer.body, answer.status) == (Body.RP, Status.ACCEPTED)
    found = await stored(desk, certificate)
    assert (found.status, found.reason) == (status, reason)


async def test_a_registration_authority_takes_a_certificate_off_hold(new_desk: NewDesk) -> None:
    vendor = ForeignCa("RA operator")
    trusted, key = vendor.end_entity("ra-1")
    fingerprint = trusted.fingerprint(hashes.SHA256()).hex()
    desk = await new_desk(options={"trusted": [vendor.pem], "registration_authorities": [fingerprint]})
    client, certificate = await holder(desk)
    await client.ask(Body.RR, revocation(certificate, 6))
    assert (await desk.client().ask(Body.RR, revocation(certificate, 8))).failures == {"notAuthorized"}
    answer = await desk.client(certificate=trusted, key=key).ask(Body.RR, revocation(certificate, 8))
    assert answer.status == Status.ACCEPTED
    assert (await stored(desk, certificate)).status == "valid"


@pytest.mark.parametrize(("reason", "failure"), [(7, "badDataFormat"), (99, "badDataFormat")])
async def test_a_reason_that_does_not_exist_is_refused(new_desk: NewDesk, reason: int, failure: str) -> None:
    desk = await new_desk()
    client, certificate = await holder(desk)
    assert (await client.ask(Body.RR, revocation(certificate, reason))).failures == {failure}


async def test_a_certificate_that_was_never_issued_is_not_revoked(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client, certificate = await holder(desk)
    template = crmf.cert_template(issuer=certificate.issuer.public_bytes(), serial=4711)
    answer = await client.ask(Body.RR, der.sequence(der.sequence(template)))
    assert answer.failures == {"badCertId"}


async def test_a_certificate_under_another_secret_is_not_revoked(new_desk: NewDesk) -> None:
    desk = await new_desk()
    _, certificate = await holder(desk)
    wish = NewCredential(kind="mac", name="other", secret="another secret of enough length")  # type: ignore[arg-type]
    await create_credential(desk.enrollment, OPERATOR, Protocol.CMP, desk.endpoint.name, wish)
    other = desk.client(secret=("other", b"another secret of enough length"))
    assert (await other.ask(Body.RR, revocation(certificate))).failures == {"notAuthorized"}


async def test_nothing_is_revoked_where_that_is_switched_off(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"revocation": False})
    client, certificate = await holder(desk)
    assert (await client.ask(Body.RR, revocation(certificate))).failures == {"notAuthorized"}
