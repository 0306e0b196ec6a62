"""Processes are killed while clients work. Whoever got an answer finds that it still holds; the rest may ask again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from tests.support.pki import PLAIN, Issued, Pki, certificate_request, eventually, issued
from tests.support.product import NewProduct, Product

from intaglio.db.embedded import EmbeddedPostgres

_CLIENTS = 16
_VICTIMS = ("worker", "database", "jobs", "server", "worker", "everything")
_ALLOWED = {503, 504}  # what may be answered instead, while something is down


@dataclass
class Load:
    """What clients were told."""

    issued: list[Issued] = field(default_factory=list)
    revoked: list[Issued] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    crls: set[bytes] = field(default_factory=set)
    ended: bool = False

    async def client(self, pki: Pki, number: int) -> None:
        """Enrol, and revoke a third of what was enrolled; after an error go on with a new connection."""
        chance = random.Random(number)
        request = certificate_request()
        while not self.ended:
            async with pki.http(connections=1) as gateway:
                try:
                    await self._work(gateway, request, chance)
                except httpx.TransportError:
                    self.broken += 1
                    await asyncio.sleep(0.02)  # the port may be closed for a moment

    async def _work(self, gateway: Any, request: bytes, chance: random.Random) -> None:
        while not self.ended:
            answer = await gateway.enroll(request)
            if not self._went_well(answer):
                continue
            got = issued(answer)
            self.issued.append(got)
            if chance.random() < 1 / 3 and self._went_well(await gateway.act(got, "RevokeAction")):
                self.revoked.append(got)

    def _went_well(self, answer: httpx.Response) -> bool:
        if answer.status_code == 200:
            return True
        assert answer.status_code in _ALLOWED, answer.text
        assert answer.json()["type"] == "ErrorResponse"
        self.refused[answer.status_code] += 1
        return False

    async def watch_crl(self, pki: Pki) -> None:
        """What a relying party sees that fetches the CRL all the time."""
        while not self.ended:
            try:
                async with httpx.AsyncClient(trust_env=False, timeout=10, verify=PLAIN) as http:
                    answer = await http.get(pki.crl_url)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                self.crls.add(answer.content)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("seed", [7])
async def test_what_was_answered_survives_every_kill(new_product: NewProduct, seed: int) -> None:
    product = new_product(WORKERS="2")
    product.run("init")
    pki = Pki.create(product.start(), "demo", crl_on_revoke=True)
    load, chance = Load(), random.Random(seed)
    async with asyncio.TaskGroup() as tasks:
        for number in range(_CLIENTS):
            tasks.create_task(load.client(pki, number))
        tasks.create_task(load.watch_crl(pki))
        for victim in _VICTIMS:
            await _progress(load, chance.randrange(20, 80))
            await _kill(product, victim, chance)
        await _progress(load, 50)
        load.ended = True
    assert load.revoked
    _check_crls(load.crls)
    with pki.database() as database:
        _check_certificates(database, load)
        _check_journal(database)
    await eventually(lambda: _missing_on_crl(pki, load.revoked) == set(), what="the CRL lists what was revoked")
    for each in load.revoked:
        assert pki.ocsp(each).certificate_status is ocsp.OCSPCertStatus.REVOKED
    product.run("audit", "verify")


async def _progress(load: Load, count: int) -> None:
    target = len(load.issued) + count
    await eventually(lambda: len(load.issued) >= target, what=f"the service resumes: {load.refused}, {load.broken}")


async def _kill(product: Product, victim: str, chance: random.Random) -> None:
    processes = product.runtime.processes
    if victim == "worker":
        os.kill(processes[f"worker-{chance.randrange(2)}"], signal.SIGKILL)
    elif victim == "jobs":
        os.kill(processes["jobs"], signal.SIGKILL)
    elif victim == "database":
        _kill_database(product)
    else:
        await asyncio.to_thread(_restart, product, everything=victim == "everything")


def _kill_database(product: Product) -> None:
    pid = EmbeddedPostgres(product.data).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _restart(product: Product, *, everything: bool) -> None:
    """Kill the server at its root, or all of it with the database, and start it again as a service manager does."""
    runtime = product.runtime
    for name in runtime.listeners:
        product.settings[f"{name.upper()}__PORT"] = str(runtime.port(name))
    assert product.process is not None
    product.process.kill()
    if everything:
        for pid in runtime.processes.values():
            os.kill(pid, signal.SIGKILL)
        _kill_database(product)
    product.process.wait()
    product.start()


def _check_crls(seen: set[bytes]) -> None:
    """No two CRLs carry one number, and a higher number is never the older CRL."""
    crls = [x509.load_der_x509_crl(der) for der in seen]
    numbered = sorted(
        (crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number, crl.last_update_utc, len(crl))
        for crl in crls
    )
    assert len(numbered) > 3, "revocations are published at once, so there should have been some"
    assert len({number for number, _, _ in numbered}) == len(numbered)
    assert [(at, size) for _, at, size in numbered] == sorted((at, size) for _, at, size in numbered)


def _check_certificates(database: Any, load: Load) -> None:
    """Certificates, issued events and audit records correspond one to one, and contain all that clients hold."""
    stored = {
        bytes(der): (events, records)
        for der, events, records in database.execute(
            """SELECT der,
                 (SELECT count(*) FROM certificate_event e WHERE e.certificate_id = c.id AND action = 'issued'),
                 (SELECT count(*) FROM audit_record a WHERE action = 'certificate.issue' AND outcome = 'success'
                    AND object = 'demo~issuing/' || upper(encode(serial, 'hex')))
               FROM certificate c WHERE ca_id = (SELECT id FROM ca WHERE name = 'issuing')"""
        )
    }
    for each in load.issued:
        assert stored.get(each.der) == (1, 1), each.serial
    assert set(stored.values()) <= {(1, 1)}, "something was recorded in part"
    assert len({each.serial for each in load.issued}) == len(load.issued)


def _check_journal(database: Any) -> None:
    """Events and audit records are numbered from one on without gaps, as far as the head says."""
    head = database.execute("SELECT event_seq, audit_seq FROM journal_head").fetchone()
    for table, last in zip(("certificate_event", "audit_record"), head, strict=True):
        found = database.execute(f"SELECT min(seq), max(seq), count(*) FROM {table}").fetchone()
        assert found == (1, last, last), table


def _missing_on_crl(pki: Pki, revoked: list[Issued]) -> set[int]:
    return {int(each.serial, 16) for each in revoked} - {entry.serial_number for entry in pki.crl()}
