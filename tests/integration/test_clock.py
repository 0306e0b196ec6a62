"""The clock jumps under a running server. Two cases:

Server and database disagree (one host's clock is wrong): nothing is signed until they agree again. Both were wrong
together (one host, or one wrong time source) and are set right: what was dated into the future is replaced at once.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.support.authority import make_hierarchy
from tests.support.pki import Issued, Pki, admin, certificate_request, eventually, issued, ok, refusal
from tests.support.product import NewProduct, Product

from intaglio.authority import crls, ocsp_signers
from intaglio.authority.context import Authority
from intaglio.authority.upkeep import renew_ocsp_signers, run_due_crls
from intaglio.core import clock

# Python runs a module of this name at its start. It moves the one place where the product reads the clock; the clocks
# of TLS, of timeouts and of the database stay true.
_CLOCK = """
import os
from datetime import timedelta
from pathlib import Path
from intaglio.core import clock

setting = Path(os.environ["TEST_CLOCK"])
clock._source = lambda at=clock._source: at() + timedelta(seconds=int(setting.read_text()))
"""
_JUMPS = (timedelta(hours=3), timedelta(hours=-3))


@pytest.fixture
def moved_clock(new_product: NewProduct) -> tuple[Pki, Path]:
    """A PKI in a product whose clock a file sets; the database keeps the true time."""
    product = new_product()
    setting = product.work / "clock"
    _set_clock(setting, timedelta(0))
    product.run("init")
    (product.work / "sitecustomize.py").write_text(_CLOCK)
    product.launcher = ["env", f"PYTHONPATH={product.work}", f"TEST_CLOCK={setting}"]
    return Pki.create(product.start(), "demo", crl_on_revoke=True), setting


@pytest.mark.parametrize("jump", _JUMPS, ids=["forward", "back"])
async def test_nothing_is_signed_by_a_clock_that_the_database_contradicts(
    moved_clock: tuple[Pki, Path], jump: timedelta
) -> None:
    pki, setting = moved_clock
    async with pki.http() as gateway:
        kept, revoked = [issued(await gateway.enroll(certificate_request())) for _ in range(2)]
        ok(await gateway.act(revoked, "RevokeAction"))
        assert (await _status(pki, kept)).certificate_status is ocsp.OCSPCertStatus.GOOD
        number = await asyncio.to_thread(pki.crl_number)
        _set_clock(setting, jump)
        await eventually(lambda: _clock_is(pki.product, "DOWN"), what="the server notices")
        # By a clock that is behind the client's own credential is not valid yet.
        error = refusal(await gateway.enroll(certificate_request()), 401, 503)
        assert error["code"] in ("cagw-5002", "cagw-4011")
        with admin(pki.product) as http:
            wanted = {"profile": "privatessl-tls-server", "csr": _pem(certificate_request())}
            answer = http.post(f"/cas/{pki.issuing}/certificates", json=wanted)
            assert (answer.status_code, answer.json()["code"]) == (503, "clock-unreliable")
            ok(http.post(f"/cas/{pki.issuing}/certificates/{kept.serial}/hold", json={}))
        assert (await _status(pki, kept)).response_status is ocsp.OCSPResponseStatus.TRY_LATER
        assert await asyncio.to_thread(pki.crl_number) >= number
        _set_clock(setting, timedelta(0))
        await eventually(lambda: _clock_is(pki.product, "UP"), what="the server notices that all is well")
        issued(await gateway.enroll(certificate_request()))
        answer_now = await _status(pki, kept)
        assert answer_now.certificate_status is ocsp.OCSPCertStatus.REVOKED, "a hold is possible at any time"
        assert abs(answer_now.this_update_utc - clock.now()) < timedelta(minutes=1)
        await eventually(lambda: _lists(pki, kept.serial), what="the CRL tells of the hold")
    assert _all_dated_by_the_true_clock(pki)


async def test_crls_and_signers_from_the_future_are_replaced_when_the_clock_is_set_back(
    authority: Authority, organization: str
) -> None:
    _, issuing = await make_hierarchy(authority, organization)
    start = clock.now().replace(microsecond=0)
    with clock.frozen(start) as advance:
        ca = (await authority.snapshot()).ca("demo~issuing")
        await run_due_crls(authority)
        advance(timedelta(hours=30))
        assert await run_due_crls(authority) > 0
        await renew_ocsp_signers(authority)
        ahead = await _latest(authority)
        assert ahead.this_update == start + timedelta(hours=30)
        advance(timedelta(hours=-30))
        assert await run_due_crls(authority) > 0
        replaced = await _latest(authority)
        assert replaced.number == ahead.number + 1
        assert replaced.this_update == start
        assert await run_due_crls(authority) == 0, "once is enough"
        signer = await ocsp_signers.ensure_signer(authority, ca, ca.generation)
        assert signer.not_before <= start
    assert issuing.ca.id == "demo~issuing"


async def _latest(authority: Authority) -> crls.CrlFacts:
    ca = (await authority.snapshot()).ca("demo~issuing")
    async with authority.database.read() as view:
        facts = await crls.latest_facts(view, ca, ca.generation)
    assert facts is not None
    return facts


def _set_clock(setting: Path, offset: timedelta) -> None:
    new = setting.with_suffix(".new")
    new.write_text(f"{offset.total_seconds():+.0f}\n")
    new.replace(setting)


def _clock_is(product: Product, status: str) -> bool:
    ready = httpx.get(product.url("health", "/readyz"), timeout=10, trust_env=False)
    found: str = ready.json()["components"]["clock"]["status"]
    assert (ready.status_code == 503) or found == "UP"
    return found == status


async def _status(pki: Pki, certificate: Issued) -> ocsp.OCSPResponse:
    return await asyncio.to_thread(pki.ocsp, certificate)


def _lists(pki: Pki, serial: str) -> bool:
    return int(serial, 16) in {entry.serial_number for entry in pki.crl()}


def _pem(der: bytes) -> str:
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()


def _all_dated_by_the_true_clock(pki: Pki) -> bool:
    with pki.database() as database:
        query = "SELECT count(*) FROM certificate WHERE not_before > now() OR issued_at > now() + interval '1 minute'"
        certificates = database.execute(query).fetchone()
        query = "SELECT count(*) FROM crl WHERE this_update > now()"
        return certificates == (0,) and database.execute(query).fetchone() == (0,)
