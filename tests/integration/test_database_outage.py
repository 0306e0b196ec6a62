"""The database is stopped, or hangs, under a running server: clear refusals in time, no guesses, recovery by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.x509 import ocsp
from tests.support.pki import Gateway, Issued, Pki, admin, certificate_request, eventually, issued, ok, refusal
from tests.support.product import NewProduct

from intaglio.db.embedded import EmbeddedPostgres

_REQUEST_TIMEOUT = 3.0
_DATABASE_TIMEOUT = 1.0
#: Seconds after which a request counts as hanging: its timeout, and room for a busy machine.
_LATEST = _REQUEST_TIMEOUT + 3.0
_UNREACHABLE = {"database-unavailable", "database-timeout", "database-busy", "timeout"}


@pytest.fixture
def postgres(postgres_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A database server that nobody restarts but the test."""
    server = EmbeddedPostgres(postgres_folder)
    server.start()
    yield server
    _send(server, signal.SIGCONT)
    server.stop()


@pytest.fixture
def pki(new_product: NewProduct, postgres: EmbeddedPostgres) -> Pki:
    """A PKI in a product on that database."""
    product = new_product(
        DATABASE_URL=postgres.url, REQUEST_TIMEOUT=f"{_REQUEST_TIMEOUT}", DATABASE_TIMEOUT=f"{_DATABASE_TIMEOUT}"
    )
    product.run("init")
    return Pki.create(product.start(), "demo", crl_on_revoke=True)


async def test_a_stopped_database_is_said_and_its_return_noticed(pki: Pki, postgres: EmbeddedPostgres) -> None:
    async with pki.http() as gateway:
        kept = issued(await gateway.enroll(certificate_request()))
        revoked = issued(await gateway.enroll(certificate_request()))
        ok(await gateway.act(revoked, "RevokeAction"))
        assert pki.ocsp(kept).certificate_status is ocsp.OCSPCertStatus.GOOD
        crl = pki.crl_number()
        postgres.stop()
        for request in (gateway.enroll(certificate_request()), gateway.act(kept, "RevokeAction")):
            error = await _refused(request)
            assert error["code"] == "cagw-5002"
            assert error["details"][0]["code"] in _UNREACHABLE
        _check_surroundings(pki)
        await eventually(lambda: _try_later(pki, kept), what="OCSP stops answering from memory")
        assert _try_later(pki, revoked)
        assert pki.crl_number() == crl, "a CRL proves itself, so the last one is still served"
        postgres.start()
        await _recovers(pki, gateway)
        assert pki.ocsp(kept).certificate_status is ocsp.OCSPCertStatus.GOOD
        assert pki.ocsp(revoked).certificate_status is ocsp.OCSPCertStatus.REVOKED


async def test_no_request_waits_for_a_database_that_hangs_beyond_its_time(
    pki: Pki, postgres: EmbeddedPostgres
) -> None:
    async with pki.http(connections=40) as gateway:
        kept = issued(await gateway.enroll(certificate_request()))
        assert pki.ocsp(kept).certificate_status is ocsp.OCSPCertStatus.GOOD
        unasked = issued(await gateway.enroll(certificate_request()))
        _send(postgres, signal.SIGSTOP)
        # More than the connection pool holds, so that the last ones wait for a connection and not for a statement.
        requests = [
            *(_refused(gateway.enroll(certificate_request())) for _ in range(12)),
            *(_refused(gateway.act(kept, "RevokeAction")) for _ in range(12)),
            *(_refused(gateway.client.get(f"/{pki.issuing}/certificates/{kept.serial}")) for _ in range(12)),
        ]
        for error in await asyncio.gather(*requests):
            assert error["code"] in ("cagw-5002", "cagw-5003"), error
        for each in (kept, unasked):
            assert _try_later(pki, each)
        _check_surroundings(pki)
        _send(postgres, signal.SIGCONT)
        await _recovers(pki, gateway)
        # A revocation that was refused may not have happened in part: status and CRL tell the same.
        listed = int(kept.serial, 16) in {entry.serial_number for entry in pki.crl()}
        assert listed == (pki.ocsp(kept).certificate_status is ocsp.OCSPCertStatus.REVOKED)


async def _refused(request: Awaitable[httpx.Response]) -> dict[str, Any]:
    """The refusal of a request, which has to come in time."""
    started = time.monotonic()
    answer = await request
    assert time.monotonic() - started < _LATEST
    return refusal(answer, 503, 504)


def _try_later(pki: Pki, certificate: Issued) -> bool:
    """Whether OCSP says so; any status but the true one is excluded by the caller."""
    started = time.monotonic()
    answer = pki.ocsp(certificate)
    assert time.monotonic() - started < _LATEST
    if answer.response_status is ocsp.OCSPResponseStatus.TRY_LATER:
        return True
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    return False


def _check_surroundings(pki: Pki) -> None:
    """Alive, not ready, and a problem document from the management API, all in time."""
    started = time.monotonic()
    assert _health(pki, "/livez").status_code == 200
    ready = _health(pki, "/readyz")
    assert (ready.status_code, ready.json()["components"]["database"]["status"]) == (503, "DOWN")
    with admin(pki.product) as http:
        answer = http.get("/organizations")
    assert answer.status_code in (503, 504)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] in _UNREACHABLE
    assert time.monotonic() - started < 2 * _LATEST


async def _recovers(pki: Pki, gateway: Gateway) -> None:
    await eventually(lambda: _health(pki, "/readyz").status_code == 200, what="the server gets ready again")
    ok(await gateway.enroll(certificate_request()))


def _health(pki: Pki, path: str) -> httpx.Response:
    return httpx.get(pki.product.url("health", path), timeout=_LATEST, trust_env=False)


def _send(server: EmbeddedPostgres, number: signal.Signals) -> None:
    """Signal the database server and all its children."""
    if (pid := server.pid) is None:
        return
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, *map(int, children)):
        os.kill(each, number)
