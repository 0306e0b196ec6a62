"""Requests about certificates that are not known yet may wait a little, where the operator wants it so."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from cryptography.x509 import ocsp
from tests.support.eventually import eventually
from tests.support.foreign import ForeignCa, Known, learn
from tests.support.status_authorities import Establish
from tests.validation.ocsp.test_everybody import about, post

from intaglio.core.clock import monotonic
from intaglio.db.engine import Database
from intaglio.validation.api import PublicApp
from intaglio.validation.ocsp import app as ocsp_app

_GOOD, _REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


async def test_an_answer_waits_until_the_certificate_is_known(
    database: Database, public: PublicApp, client: httpx.AsyncClient, establish: Establish
) -> None:
    ca = ForeignCa()
    authority = await establish(ca, "foreign", "basic", retry_unknown=True)
    await learn(database, authority, {7: Known()})
    waiting = asyncio.create_task(post(client, about(ca, 8)))
    await eventually(lambda: public.held == 1)
    assert not waiting.done()
    await learn(database, authority, {8: Known()})
    assert (await waiting).certificate_status is _GOOD
    assert public.held == 0


async def test_without_the_option_the_answer_is_revoked_at_once(
    database: Database, public: PublicApp, client: httpx.AsyncClient, establish: Establish
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic"), {7: Known()})
    began = monotonic()
    assert (await post(client, about(ca, 8))).certificate_status is _REVOKED
    assert monotonic() - began < ocsp_app.LONGEST_HOLD / 2


async def test_who_waited_to_the_end_is_told_revoked_and_asked_again_looks_anew(
    database: Database, client: httpx.AsyncClient, establish: Establish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocsp_app, "LONGEST_HOLD", 0.6)
    ca = ForeignCa()
    authority = await establish(ca, "foreign", "basic", retry_unknown=True)
    await learn(database, authority, {7: Known()})
    assert (await post(client, about(ca, 8))).certificate_status is _REVOKED
    await learn(database, authority, {8: Known()})
    await eventually(lambda: _is_good(client, about(ca, 8)))


async def _is_good(client: httpx.AsyncClient, request: bytes) -> bool:
    return (await post(client, request)).certificate_status is _GOOD


async def test_whoever_hangs_up_is_not_waited_for(
    database: Database, public: PublicApp, establish: Establish
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic", retry_unknown=True), {7: Known()})
    gone = asyncio.Event()
    arrived = iter([{"type": "http.request", "body": about(ca, 8), "more_body": False}])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        for message in arrived:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/eva", "headers": []}
    asking = asyncio.create_task(public(scope, receive, send))
    await eventually(lambda: public.held == 1)
    gone.set()
    await asking
    assert public.held == 0
    assert sent == []


async def test_more_than_a_bounded_number_are_told_to_try_later(
    database: Database, public: PublicApp, client: httpx.AsyncClient, establish: Establish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ocsp_app, "MAX_HELD", 2)
    ca = ForeignCa()
    authority = await establish(ca, "foreign", "basic", retry_unknown=True)
    await learn(database, authority, {7: Known()})
    waiting = [asyncio.create_task(post(client, about(ca, serial))) for serial in (8, 9)]
    await eventually(lambda: public.held == 2)
    assert (await post(client, about(ca, 10))).response_status is ocsp.OCSPResponseStatus.TRY_LATER
    await learn(database, authority, {8: Known(), 9: Known()})
    assert [(await each).certificate_status for each in waiting] == [_GOOD, _GOOD]
