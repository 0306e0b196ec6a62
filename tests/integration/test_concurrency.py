"""Many clients want the same thing at the same time: it happens once, or in an order that makes sense."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx
from tests.support.pki import (
    PROFILE,
    Gateway,
    Issued,
    Pki,
    admin,
    ca_body,
    certificate_request,
    eventually,
    issued,
    ok,
    refusal,
)


async def test_two_hundred_requests_with_one_idempotency_key_give_one_certificate(pki: Pki) -> None:
    request, key = certificate_request(), f"once-{random.Random().getrandbits(60):x}"
    async with pki.http(connections=50) as gateway:
        answers = await asyncio.gather(*(gateway.enroll(request, key=key) for _ in range(200)))
        given = {issued(answer).der for answer in answers}
        assert len(given) == 1
        (certificate,) = {issued(answer) for answer in answers}
        assert _events(pki, certificate) == ["issued"]
        assert refusal(await gateway.enroll(certificate_request("other.example"), key=key), 409)["code"] == "cagw-4026"


async def test_parallel_revocations_of_one_certificate_are_one_event(pki: Pki) -> None:
    async with pki.http(connections=20) as gateway:
        certificate = issued(await gateway.enroll(certificate_request()))
        same = [gateway.act(certificate, "RevokeAction", reason="keyCompromise") for _ in range(30)]
        other = [gateway.act(certificate, "RevokeAction", reason="superseded") for _ in range(30)]
        answers = Counter([answer.status_code for answer in await asyncio.gather(*same, *other)])
    assert answers == {200: 30, 409: 30}, "one reason wins, and the other is told so"
    assert _events(pki, certificate) == ["issued", "revoked"]


async def test_parallel_holds_and_releases_keep_a_legal_history(pki: Pki) -> None:
    chance = random.Random(70)
    actions = ["HoldAction", "UnholdAction"] * 20 + ["RevokeAction"]
    chance.shuffle(actions)
    async with pki.http(connections=20) as gateway:
        certificate = issued(await gateway.enroll(certificate_request()))
        answers = await asyncio.gather(*(gateway.act(certificate, action) for action in actions))
        for answer in answers:
            if answer.status_code != 200:
                assert refusal(answer, 409)["code"] == "cagw-4025"
        history = _events(pki, certificate)
        shown = ok(await gateway.client.get(f"/{pki.issuing}/certificates/{certificate.serial}")).json()
    assert history[0] == "issued"
    assert history[-1] == "revoked", "revoked is final"
    changes = history[1:-1]
    assert changes == ["held", "unheld"] * (len(changes) // 2) + ["held"] * (len(changes) % 2)
    assert shown["certificate"]["status"] == "revoked"


async def test_of_twenty_cas_with_one_name_one_is_made(pki: Pki) -> None:
    body = {**ca_body("wanted-by-all"), "kind": "issuing", "issuer": "root"}
    transport = httpx.AsyncHTTPTransport(uds=pki.product.runtime.admin_socket)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", timeout=60) as http:
        path = f"/organizations/{pki.organization}/cas"
        answers = await asyncio.gather(*(http.post(path, json=body) for _ in range(20)))
        listed = ok(await http.get("/cas", params={"organization": pki.organization})).json()["items"]
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 19}, [a.text for a in answers]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"ca-exists", "already-exists"}
    assert [ca["id"] for ca in listed].count(f"{pki.organization}~wanted-by-all") == 1


async def test_whoever_enrols_while_a_ca_is_deleted_has_a_recorded_certificate_or_a_refusal(pki: Pki) -> None:
    received: list[Issued] = []
    async with pki.http(connections=16) as gateway:
        with admin(pki.product) as http:
            body = {**ca_body("doomed"), "kind": "issuing", "issuer": "root"}
            ok(http.post(f"/organizations/{pki.organization}/cas", json=body))
            clients = [asyncio.create_task(_enroll_until_refused(gateway, received)) for _ in range(16)]
            await eventually(lambda: len(received) > 40, what="enrolments run")
            path, everything = f"/cas/{pki.organization}~doomed", {"revoke_all": True}
            ok(await asyncio.to_thread(lambda: http.delete(path, params=everything)))
            await asyncio.gather(*clients)
    with pki.database() as database:
        # A deleted CA goes on answering OCSP, with a signer that may be newer than the revocation of all others.
        query = """SELECT der, status FROM certificate
            WHERE ca_id = (SELECT ca.id FROM ca JOIN organization o ON o.id = ca.organization_id
                    WHERE ca.name = 'doomed' AND o.name = %s) AND profile = %s"""
        stored = {bytes(der): status for der, status in database.execute(query, [pki.organization, PROFILE])}
    assert {each.der for each in received} <= set(stored)
    assert set(stored.values()) == {"revoked"}, "a certificate was issued after all had been revoked"


def _events(pki: Pki, certificate: Issued) -> list[str]:
    """What happened to a certificate, in order; each is also in the audit trail."""
    with pki.database() as database:
        serial = bytes.fromhex(certificate.serial)
        query = "SELECT action FROM certificate_event WHERE serial = %s ORDER BY seq"
        events = [row[0] for row in database.execute(query, [serial])]
        query = """SELECT count(*) FROM audit_record WHERE object LIKE '%%/' || %s AND outcome = 'success'"""
        (records,) = database.execute(query, [certificate.serial]).fetchone()  # type: ignore[misc]
    assert records == len(events)
    return events


async def _enroll_until_refused(gateway: Gateway, received: list[Issued]) -> None:
    request = certificate_request()
    while (answer := await gateway.enroll(request, ca="doomed")).status_code == 200:
        received.append(issued(answer))
    assert refusal(answer)["code"] in ("cagw-4018", "cagw-4019", "cagw-4025")
