"""From an application to a certificate: limits, approval, the same answer to the same question."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR
from tests.support.requests import request

from intaglio.audit.models import audit_record
from intaglio.authority import upkeep as authority_upkeep
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.errors import Forbidden, NotFound, RateLimited, Refused, StateConflict
from intaglio.enrollment import administration, approvals, pipeline, request_administration
from intaglio.enrollment.administration import EndpointChanges
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import EndpointUnknown
from intaglio.enrollment.values import Applicant, Application, Endpoint, Granted, Waiting
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.certificates import read_certificate

DEVICE = Applicant("device-1", "password", "192.0.2.7")


def wish(endpoint: Endpoint, csr: bytes | None = None, key: str | None = None, **more: object) -> Application:
    return Application(endpoint, DEVICE, csr=csr or request(dns=["device-1.example"]), key=key, **more)  # type: ignore[arg-type]


async def granted(enrollment: Enrollment, application: Application) -> Granted:
    found = await pipeline.apply(enrollment, application)
    assert isinstance(found, Granted)
    return found


async def test_a_request_becomes_a_recorded_certificate(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("est")
    made = await granted(enrollment, wish(endpoint))
    info = read_certificate(made.certificate)
    assert info.subject.rfc4514 == "CN=device-1"
    assert info.san is not None
    assert info.san.text == ["dNSName=device-1.example"]
    assert len(made.chain) == 2
    stored = await pipeline.presented(enrollment, endpoint, made.certificate)
    assert stored is not None
    assert (stored.channel, stored.requester, stored.status) == ("est", "device-1", "valid")
    assert stored.properties["endpoint"] == endpoint.address
    async with enrollment.database.read() as view:
        found = await view.one_or_none(select(audit_record).where(audit_record.c.action == "certificate.issue")
                                       .order_by(audit_record.c.seq.desc()).limit(1))  # fmt: skip
    assert found is not None
    assert (found["actor_kind"], found["actor"], found["source"]) == ("applicant", "device-1", "192.0.2.7")
    told = {"channel": "est", "endpoint": endpoint.address, "tenant": "main", "method": "password"}
    assert told.items() <= found["detail"].items()


async def test_a_certificate_of_somebody_else_is_not_known(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    root = (await enrollment.authority.current()).ca("demo~root").certificate.der
    assert await pipeline.presented(enrollment, endpoint, root) is None


async def test_the_same_key_gets_the_same_certificate_whoever_asks_at_the_same_time(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, csr = await new_endpoint("est"), request()
    found = await asyncio.gather(*(granted(enrollment, wish(endpoint, csr, "t-1")) for _ in range(4)))
    assert len({each.certificate for each in found}) == 1


async def test_a_key_that_asked_for_something_else_is_refused(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    await granted(enrollment, wish(endpoint, key="t-1"))
    with pytest.raises(StateConflict) as refusal:
        await pipeline.apply(enrollment, wish(endpoint, key="t-1"))
    assert refusal.value.code == "idempotency-key-reused"


async def test_the_same_key_at_two_endpoints_means_two_certificates(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    one, two = await new_endpoint("est"), await new_endpoint("est", profile="est-non-repudiation")
    csr = request()
    first, second = await granted(enrollment, wish(one, csr, "t")), await granted(enrollment, wish(two, csr, "t"))
    assert first.certificate != second.certificate


async def test_an_endpoint_that_is_switched_off_issues_nothing(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    await administration.change_endpoint(
        enrollment, OPERATOR, endpoint.protocol, endpoint.name, EndpointChanges(enabled=False)
    )
    await enrollment.authority.current()
    with pytest.raises(EndpointUnknown) as refusal:
        await pipeline.apply(enrollment, wish(endpoint))
    assert refusal.value.code == "endpoint-disabled"


async def test_an_endpoint_that_another_process_switched_off_issues_nothing(
    enrollment: Enrollment, other_process: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    await granted(other_process, wish(endpoint))  # it knows the endpoint now
    off = EndpointChanges(enabled=False)
    await administration.change_endpoint(enrollment, OPERATOR, endpoint.protocol, endpoint.name, off)
    for key in (None, "t-1"):
        with pytest.raises(EndpointUnknown):
            await pipeline.apply(other_process, wish(endpoint, key=key))


async def test_a_transaction_goes_on_in_another_process(
    enrollment: Enrollment, other_process: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    automatic, manual = await new_endpoint("est"), await new_endpoint("scep", approval="manual")
    csr = request()
    first = await granted(enrollment, wish(automatic, csr, "t-1"))
    assert (await granted(other_process, wish(automatic, csr, "t-1"))).certificate == first.certificate
    waiting = await pipeline.apply(enrollment, wish(manual, csr, "t-1"))
    assert isinstance(waiting, Waiting)
    await request_administration.approve_request(other_process, OPERATOR, waiting.request_id)
    made = await pipeline.collect(other_process, manual, "t-1")
    assert isinstance(made, Granted)
    again = await pipeline.collect(enrollment, manual, "t-1")
    assert isinstance(again, Granted)
    assert again.certificate == made.certificate


async def test_a_revocation_on_another_process_counts_at_once(
    enrollment: Enrollment, other_process: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    made = await granted(enrollment, wish(endpoint))
    for process in (enrollment, other_process, enrollment):
        stored = await pipeline.presented(process, endpoint, made.certificate)
        assert stored is not None
        assert stored.status == "valid"
    await pipeline.revoke(other_process, endpoint, DEVICE, made.serial, RevocationReason.KEY_COMPROMISE)
    stored = await pipeline.presented(enrollment, endpoint, made.certificate)
    assert stored is not None
    assert (stored.status, stored.reason) == ("revoked", RevocationReason.KEY_COMPROMISE)


async def test_requests_come_only_from_the_networks_of_the_endpoint(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    near = await new_endpoint("est", networks=("192.0.2.0/24",))
    far = await new_endpoint("est", profile="est-non-repudiation", networks=("198.51.100.0/24", "2001:db8::/32"))
    await granted(enrollment, wish(near))
    with pytest.raises(Forbidden) as refusal:
        await pipeline.apply(enrollment, wish(far))
    assert refusal.value.code == "source-not-allowed"


async def test_an_endpoint_issues_no_more_than_its_hourly_limit(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est", hourly_limit=2)
    for _ in range(2):
        await granted(enrollment, wish(endpoint))
    with pytest.raises(RateLimited) as refusal:
        await pipeline.apply(enrollment, wish(endpoint))
    assert refusal.value.retry_after is not None
    assert 0 < refusal.value.retry_after <= 3600


async def test_polls_of_a_waiting_request_do_not_count(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual", hourly_limit=1), request()
    for _ in range(3):
        waiting = await pipeline.apply(enrollment, wish(endpoint, csr))
    assert isinstance(waiting, Waiting)
    await request_administration.approve_request(enrollment, OPERATOR, waiting.request_id)
    for _ in range(3):
        await granted(enrollment, wish(endpoint, csr))


async def test_a_request_waits_until_somebody_approves_it(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual"), request()
    first = await pipeline.apply(enrollment, wish(endpoint, csr))
    again = await pipeline.apply(enrollment, wish(endpoint, csr))
    assert isinstance(first, Waiting)
    assert first == again
    await request_administration.approve_request(enrollment, OPERATOR, first.request_id)
    made = await granted(enrollment, wish(endpoint, csr))
    assert (await granted(enrollment, wish(endpoint, csr))).certificate == made.certificate
    shown = await request_administration.show_request(enrollment, OPERATOR, first.request_id)
    assert (shown.request.state, shown.request.certificate_id) == ("issued", made.id)


async def test_whoever_asks_several_times_at_once_waits_once(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual"), request()
    found = await asyncio.gather(*(pipeline.apply(enrollment, wish(endpoint, csr)) for _ in range(6)))
    (waiting,) = {each for each in found if isinstance(each, Waiting)}
    await request_administration.approve_request(enrollment, OPERATOR, waiting.request_id)
    made = await asyncio.gather(*(granted(enrollment, wish(endpoint, csr)) for _ in range(6)))
    assert len({each.certificate for each in made}) == 1


async def test_one_approval_is_good_for_one_certificate(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual"), request()
    waiting = await pipeline.apply(enrollment, wish(endpoint, csr))
    assert isinstance(waiting, Waiting)
    await request_administration.approve_request(enrollment, OPERATOR, waiting.request_id)
    made = await granted(enrollment, wish(endpoint, csr))
    await pipeline.revoke(enrollment, endpoint, DEVICE, made.serial, RevocationReason.KEY_COMPROMISE)
    with clock.frozen(clock.now() + authority_upkeep.IDEMPOTENCY_RETENTION + timedelta(hours=1)):
        await authority_upkeep.prune(enrollment.authority)
        again = await granted(enrollment, wish(endpoint, csr))
    assert (again.certificate, again.chain) == (made.certificate, made.chain)


async def test_a_poll_that_names_nothing_but_the_transaction_gets_the_certificate(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, csr = await new_endpoint("scep", approval="manual"), request()
    asked = wish(endpoint, csr, "transaction-1", sans=(("dns", "phone.example"),), subject="CN=phone")
    waiting = await pipeline.apply(enrollment, asked)
    assert isinstance(waiting, Waiting)
    assert isinstance(await pipeline.collect(enrollment, endpoint, "transaction-1"), Waiting)
    await request_administration.approve_request(enrollment, OPERATOR, waiting.request_id)
    made = await pipeline.collect(enrollment, endpoint, "transaction-1")
    assert isinstance(made, Granted)
    info = read_certificate(made.certificate)
    assert info.subject.rfc4514 == "CN=phone"
    assert info.san is not None
    assert info.san.text == ["dNSName=phone.example"]
    with pytest.raises(NotFound) as refusal:
        await pipeline.collect(enrollment, endpoint, "transaction-2")
    assert refusal.value.code == "request-unknown"


async def test_nobody_alone_fills_the_queue_of_requests_that_wait(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "_MOST_OF_SOURCE", 2)
    endpoint = await new_endpoint("est", approval="manual")
    first = wish(endpoint)
    for asked in (first, wish(endpoint), first):
        assert isinstance(await pipeline.apply(enrollment, asked), Waiting)
    with pytest.raises(RateLimited):
        await pipeline.apply(enrollment, wish(endpoint))
    elsewhere = replace(wish(endpoint), applicant=replace(DEVICE, source="198.51.100.7"))
    assert isinstance(await pipeline.apply(enrollment, elsewhere), Waiting)


async def test_a_challenge_password_is_neither_stored_nor_shown_to_whoever_approves(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, secret = await new_endpoint("scep", approval="manual"), "known-to-the-whole-fleet"
    asked = wish(endpoint, request("CN=phone", dns=["phone.example"], challenge=secret), "transaction-1")
    waiting = await pipeline.apply(enrollment, asked)
    assert isinstance(waiting, Waiting)
    shown = (await request_administration.show_request(enrollment, OPERATOR, waiting.request_id)).request
    stored = base64.b64decode(shown.application["csr"] or "") + repr(shown).encode() + repr(shown.application).encode()
    assert secret.encode() not in stored
    await request_administration.approve_request(enrollment, OPERATOR, waiting.request_id)
    info = read_certificate((await granted(enrollment, asked)).certificate)
    assert (info.subject.rfc4514, info.san and info.san.text) == ("CN=phone", ["dNSName=phone.example"])


async def test_a_rejected_request_is_told_the_reason(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual"), request()
    waiting = await pipeline.apply(enrollment, wish(endpoint, csr))
    assert isinstance(waiting, Waiting)
    await request_administration.reject_request(enrollment, OPERATOR, waiting.request_id, "unknown device")
    with pytest.raises(Refused) as refusal:
        await pipeline.apply(enrollment, wish(endpoint, csr))
    assert (refusal.value.code, "unknown device" in refusal.value.detail) == ("request-rejected", True)
    with pytest.raises(StateConflict):
        await request_administration.approve_request(enrollment, OPERATOR, waiting.request_id)


async def test_somebody_else_cannot_take_over_a_waiting_transaction(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual"), request()
    await pipeline.apply(enrollment, wish(endpoint, csr, "t-1"))
    other = Application(endpoint, Applicant("device-2", "password", "192.0.2.8"), csr=csr, key="t-1")
    with pytest.raises(StateConflict) as refusal:
        await pipeline.apply(enrollment, other)
    assert refusal.value.code == "request-key-reused"


async def test_a_request_that_nobody_decides_expires(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint, csr = await new_endpoint("est", approval="manual"), request()
    await pipeline.apply(enrollment, wish(endpoint, csr))
    with clock.frozen(clock.now() + approvals.WAITS + timedelta(minutes=1)):
        async with enrollment.database.transaction() as tx:
            assert await approvals.expire(tx) == 1
        with pytest.raises(Refused) as refusal:
            await pipeline.apply(enrollment, wish(endpoint, csr))
    assert refusal.value.code == "request-expired"


async def test_a_renewed_certificate_is_linked_and_may_be_superseded(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    old = await granted(enrollment, wish(endpoint))
    new = await granted(enrollment, wish(endpoint, previous=old.id))
    await pipeline.supersede(enrollment, endpoint, DEVICE, old.serial)
    await pipeline.supersede(enrollment, endpoint, DEVICE, old.serial)
    stored = await pipeline.presented(enrollment, endpoint, old.certificate)
    follower = await pipeline.presented(enrollment, endpoint, new.certificate)
    assert stored is not None
    assert follower is not None
    assert (stored.status, stored.reason) == ("revoked", RevocationReason.SUPERSEDED)
    assert (follower.previous_id, follower.status) == (old.id, "valid")
    with pytest.raises(StateConflict) as refusal:
        await pipeline.apply(enrollment, wish(endpoint, previous=old.id))
    assert refusal.value.code == "certificate-revoked"


async def test_a_renewal_makes_nobody_an_account_of_active_directory(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint, dns = await new_endpoint("est"), ["device-1.example"]
    plain = await granted(enrollment, wish(endpoint))
    with pytest.raises(Refused) as refusal:
        await pipeline.apply(enrollment, wish(endpoint, request(dns=dns, sid="S-1-5-21-1-2-3-500"), previous=plain.id))
    assert refusal.value.code == "name-not-allowed"
    known = await granted(enrollment, wish(endpoint, request(dns=dns, sid="S-1-5-21-1-2-3-1001")))
    renewed = wish(endpoint, request(dns=dns, sid="S-1-5-21-1-2-3-1001"), previous=known.id)
    assert b"S-1-5-21-1-2-3-1001" in (await granted(enrollment, renewed)).certificate


async def test_nobody_becomes_a_ca_by_a_profile_that_is_offered_by_mistake(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, offered = await new_endpoint("est"), CaView.profile

    def mistaken(ca: CaView, profile_id: str) -> CertificateProfile:
        return offered(ca, profile_id).model_copy(update={"kind": "subordinate"})

    monkeypatch.setattr(CaView, "profile", mistaken)
    with pytest.raises(Refused) as refusal:
        await pipeline.apply(enrollment, wish(endpoint))
    assert refusal.value.code == "profile-not-for-enrolment"


async def test_only_a_certificate_of_the_ca_can_be_revoked(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    with pytest.raises(NotFound) as refusal:
        await pipeline.revoke(enrollment, endpoint, DEVICE, b"\x01\x02", RevocationReason.KEY_COMPROMISE)
    assert refusal.value.code == "certificate-unknown"


async def test_whoever_looks_closely_sees_how_every_request_was_answered(new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("est")
    with capture_logs() as lines:
        pipeline.served(endpoint.protocol, endpoint, "cacerts", "answered", 0.0012)
    [line] = lines
    assert (line["log_level"], line["endpoint"], line["operation"]) == ("debug", endpoint.address, "cacerts")
    assert (line["outcome"], line["milliseconds"]) == ("answered", 1.2)
