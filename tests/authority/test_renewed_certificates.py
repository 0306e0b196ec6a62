"""A certificate is renewed only while it is valid, however close together renewing and revoking come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select, text
from tests.support.authority import OPERATOR, issue_server_certificate, make_hierarchy
from tests.support.eventually import eventually

from intaglio.authority import models
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.issuance import Idempotency, Issued
from intaglio.authority.revocation import StatusChange, change_status, change_status_in, hold, revocation, unhold
from intaglio.core.errors import StateConflict

REVOKED = revocation(RevocationReason.KEY_COMPROMISE)


@pytest_asyncio.fixture
async def old(authority: Authority, organization: str) -> Issued:
    """A certificate that somebody is about to renew."""
    await make_hierarchy(authority)
    return await issue_server_certificate(authority, "demo~issuing")


async def renew(authority: Authority, old: Issued, **asked: Any) -> Issued:
    """Commit a renewal that was decided upon while the old certificate was valid."""
    return await issue_server_certificate(authority, "demo~issuing", renews=old, **asked)


async def change(authority: Authority, certificate: Issued, change: StatusChange) -> None:
    await change_status(authority, OPERATOR, certificate.ca, certificate.serial, change)


def once() -> Idempotency:
    return Idempotency("alice", "one", b"\1" * 32)


async def _waits_for_a_lock(authority: Authority) -> bool:
    async with authority.database.read() as view:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(await view.scalar(waiting))


@pytest.mark.parametrize("idempotency", [None, once()])
@pytest.mark.parametrize(("status", "code"), [(REVOKED, "certificate-revoked"), (hold(), "certificate-held")])
async def test_a_certificate_revoked_after_the_decision_is_not_renewed(
    authority: Authority, old: Issued, status: StatusChange, code: str, idempotency: Idempotency | None
) -> None:
    await change(authority, old, status)
    with pytest.raises(StateConflict) as refusal:
        await renew(authority, old, idempotency=idempotency)
    assert refusal.value.code == code


@pytest.mark.parametrize("idempotency", [None, once()])
async def test_a_renewal_waits_for_the_revocation_under_way_and_is_refused(
    authority: Authority, old: Issued, idempotency: Idempotency | None
) -> None:
    async with authority.database.transaction() as tx:
        await change_status_in(tx, OPERATOR, old.ca, old.serial, REVOKED)
        renewal = asyncio.create_task(renew(authority, old, idempotency=idempotency))
        await eventually(lambda: _waits_for_a_lock(authority))
    with pytest.raises(StateConflict) as refusal:
        await renewal
    assert refusal.value.code == "certificate-revoked"


async def test_a_change_that_leaves_it_valid_does_not_hinder_the_renewal(authority: Authority, old: Issued) -> None:
    async with authority.database.transaction() as tx:
        await change_status_in(tx, OPERATOR, old.ca, old.serial, hold())
        renewal = asyncio.create_task(renew(authority, old))
        await eventually(lambda: _waits_for_a_lock(authority))
        await change_status_in(tx, OPERATOR, old.ca, old.serial, unhold())
    assert (await renewal).id != old.id


async def test_after_the_hold_it_is_renewed(authority: Authority, old: Issued) -> None:
    await change(authority, old, hold())
    await change(authority, old, unhold())
    assert (await renew(authority, old)).id != old.id


async def test_a_refused_renewal_leaves_its_neighbours_and_the_numbers_alone(authority: Authority, old: Issued) -> None:
    others = [await issue_server_certificate(authority, "demo~issuing") for _ in range(6)]
    for certificate in others[::2]:
        await change(authority, certificate, REVOKED)
    asked = [renew(authority, certificate) for certificate in [*others, *others]]
    plain = [issue_server_certificate(authority, "demo~issuing") for _ in range(4)]
    outcomes = await asyncio.gather(*asked, *plain, return_exceptions=True)
    refused = [isinstance(outcome, StateConflict) for outcome in outcomes]
    assert refused == [True, False] * 6 + [False] * 4
    async with authority.database.read() as view:
        events = models.certificate_event.c.seq
        highest = await view.scalar(text("SELECT event_seq FROM journal_head"))
        assert await view.scalar(select(func.count(events.distinct()))) == highest
        made = [outcome.id for outcome in outcomes if isinstance(outcome, Issued)]
        c = models.certificate.c
        assert await view.scalar(select(func.count()).where(c.id.in_(made))) == 10


async def test_renewing_and_revoking_at_once_never_renews_what_was_revoked(authority: Authority, old: Issued) -> None:
    certificates = [await issue_server_certificate(authority, "demo~issuing") for _ in range(8)]
    outcomes = await asyncio.gather(
        *(
            step
            for certificate in certificates
            for step in (renew(authority, certificate), change(authority, certificate, REVOKED))
        ),
        return_exceptions=True,
    )
    unexpected = [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, StateConflict)]
    assert unexpected == []
    e = models.certificate_event.c
    async with authority.database.read() as view:
        for certificate, renewal in zip(certificates, outcomes[::2], strict=True):
            revoked = await view.scalar(select(e.seq).where(e.certificate_id == certificate.id, e.action == "revoked"))
            if isinstance(renewal, Issued):
                issued = await view.scalar(select(e.seq).where(e.certificate_id == renewal.id))
                assert issued < revoked
