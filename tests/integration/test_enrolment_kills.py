"""Workers are killed while people enrol: everybody gets his certificate, and nobody two."""

from __future__ import annotations

import os
import signal
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.mtls.enrolment.conftest import csr
from tests.support.product import PATIENCE, Product, eventually

from intaglio.core.clock import monotonic

_PEOPLE = 12
_KILLS = 4


@pytest.fixture
def pki() -> Iterator[Product]:
    """A server of its own with two workers and a trust domain."""
    with tempfile.TemporaryDirectory(prefix="intaglio-kills-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Product(folder, WORKERS="2")
        product.run("init")
        try:
            product.start()
            product.run("org", "create", "demo")
            environment = ("--environment", "prod", "--org", "demo", "--new-ca")
            product.run("mtls", "domain", "create", "prod.example", *environment, "--email-domain", "example.com")
            product.run("settings", "set", "enrolment.requests_per_minute=10000")
            yield product
        finally:
            product.stop()


def test_killed_workers_lose_no_enrolment_and_repeat_none(pki: Product) -> None:
    people = [f"person{number}@example.com" for number in range(_PEOPLE)]
    codes = [pki.json("mtls", "code", "create", email, "--name", email)["code"] for email in people]
    ca = pki.folder / "platform-ca.pem"
    ca.write_text(pki.run("tls", "ca-certificate"))
    enrolled = threading.Semaphore(0)
    with ThreadPoolExecutor(_PEOPLE + 1) as pool:
        killing = pool.submit(_kill_workers, pki, enrolled)
        serials = list(pool.map(lambda one: _enrol(pki, ca, *one, enrolled), zip(codes, people, strict=True)))
        killing.result()
    assert len(set(serials)) == _PEOPLE
    bindings = pki.json("mtls", "binding", "list", "--all")
    assert sorted(each["serial"] for each in bindings) == sorted(serials)
    assert Counter(each["name"] for each in bindings).most_common(1)[0][1] == 1
    eventually(lambda: _all_used(pki), what=lambda: "every code is used up")


def _enrol(pki: Product, ca: Path, code: str, email: str, enrolled: threading.Semaphore) -> str:
    """What the page does, with patience: the serial number of the certificate."""
    with httpx.Client(base_url=pki.url("console", "/enrol/v1"), verify=_trusting(ca), timeout=PATIENCE) as page:
        session = _insist(page, "/sessions", {"code": code, "email": email})
        request = csr(session["identity"], email, session["nonce"]).decode()
        issued = _insist(page, f"/sessions/{session['session']}/csr", {"csr": request})
    enrolled.release()
    return issued["serial"]


def _insist(page: httpx.Client, path: str, body: dict[str, str]) -> dict[str, str]:
    """Ask until there is an answer that is no trouble of the server's."""
    until = monotonic() + PATIENCE
    while True:
        try:
            answer = page.post(path, json=body)
        except httpx.TransportError:
            answer = None
            time.sleep(0.02)  # the port may be closed for a moment
        if answer is not None and answer.status_code < 400:
            found: dict[str, str] = answer.json()
            return found
        trouble = answer is None or answer.status_code >= 500 or answer.json()["code"] == "enrolment-in-progress"
        assert trouble, answer.text
        assert monotonic() < until, "the server does not recover"


def _kill_workers(pki: Product, enrolled: threading.Semaphore) -> None:
    """Kill one worker after the other, each time after somebody more has enrolled."""
    for number in range(_KILLS):
        assert enrolled.acquire(timeout=PATIENCE)
        _kill(pki, f"worker-{number % 2}")


def _kill(pki: Product, name: str) -> None:
    victim = pki.runtime.processes[name]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: pki.runtime.processes.get(name) not in (victim, None), what=lambda: f"{name} is replaced")


def _all_used(pki: Product) -> bool:
    return all(each["state"] == "used" for each in pki.json("mtls", "code", "list", "--all"))


def _trusting(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))
