"""Requests that wait for somebody: pending, polled, granted, refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.enrollment.scep.conftest import CHALLENGE, Call, Desk
from tests.support.authority import OPERATOR
from tests.support.scep_client import Device, Reply, rsa_key

from intaglio.asn1 import der
from intaglio.db.listing import ListQuery
from intaglio.enrollment import request_administration
from intaglio.enrollment.request_administration import RequestView
from intaglio.enrollment.scep.messages import MessageType
from intaglio.x509.names import Name


@pytest_asyncio.fixture
async def slow(new_desk: Call) -> AsyncIterator[Desk]:
    yield await new_desk(approval="manual")


async def poll(device: Device, transaction: bytes = b"tx") -> Reply:
    issuer = (await device.office())[1].subject
    content = der.sequence(issuer.der, Name.parse("CN=device-1").der)
    return await device.send(await device.message(content, MessageType.CERT_POLL, transaction=transaction))


async def waiting(desk: Desk) -> RequestView:
    page = await request_administration.list_requests(desk.enrollment, OPERATOR, ListQuery())
    (found,) = page.items
    return found


async def test_a_request_is_granted_once_it_is_approved(slow: Desk) -> None:
    device = slow.device()
    first = await device.enrol(CHALLENGE, transaction=b"tx", nonce=b"a" * 16)
    assert (first.status, first.certificates, first.recipient_nonce) == ("3", (), b"a" * 16)
    assert (await poll(device)).status == "3"
    request = await waiting(slow)
    assert (request.request.subject, request.request.method) == ("CN=device-1", "challenge")
    assert "tx" in request.request.note
    await request_administration.approve_request(slow.enrollment, OPERATOR, request.request.id)
    granted = (await poll(device)).certificate
    assert granted.subject.rfc4514 == "CN=device-1"
    assert (await poll(device)).certificate.der == granted.der


async def test_who_repeats_his_request_instead_of_polling_waits_for_the_same(slow: Desk) -> None:
    device = slow.device()
    for _ in range(2):
        assert (await device.enrol(CHALLENGE, transaction=b"tx")).status == "3"
    request = await waiting(slow)
    await request_administration.approve_request(slow.enrollment, OPERATOR, request.request.id)
    assert (await device.enrol(CHALLENGE, transaction=b"tx")).certificate.der == (await poll(device)).certificate.der


async def test_a_rejected_request_is_refused_with_the_reason(slow: Desk) -> None:
    device = slow.device()
    await device.enrol(CHALLENGE, transaction=b"tx")
    request = await waiting(slow)
    await request_administration.reject_request(slow.enrollment, OPERATOR, request.request.id, "Nobody knows it")
    reply = await poll(device)
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert reply.text is not None
    assert "Nobody knows it" in reply.text


async def test_a_poll_for_nothing_is_refused(slow: Desk) -> None:
    assert (await poll(slow.device(), b"unheard of")).fail_info == "4"


async def test_nobody_else_polls_for_a_certificate(slow: Desk) -> None:
    await slow.device(rsa_key(1)).enrol(CHALLENGE, transaction=b"tx")
    request = await waiting(slow)
    await request_administration.approve_request(slow.enrollment, OPERATOR, request.request.id)
    reply = await poll(slow.device(rsa_key(2)))
    assert (reply.status, reply.fail_info) == ("2", "2")
