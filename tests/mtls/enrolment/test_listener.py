"""The enrolment listener: who somebody is by his certificate, renewal without a code, and which pages may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sqlalchemy import text
from tests.mtls.enrolment.conftest import EMAIL, VISITOR, begin, csr, csr_for, set_live
from tests.support.authority import OPERATOR
from tests.support.identities import issue, make_domain, make_service

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.codes import CreatedCode
from intaglio.mtls.enrolment.enrolling import submit_request
from intaglio.mtls.identities import revoking
from intaglio.mtls.identities.values import IssuedIdentity
from intaglio.server.enrolment_listener import enrolment_app

OWN_PAGE = "https://pki.example:8443"
Client = Callable[..., httpx.AsyncClient]


@pytest_asyncio.fixture
async def issued(mtls: Mtls, code: CreatedCode) -> IssuedIdentity:
    """A certificate that was enrolled for with the code."""
    opened = await begin(mtls, code)
    return await submit_request(mtls, opened.token, csr_for(opened), VISITOR)


@pytest_asyncio.fixture
async def client(mtls: Mtls) -> AsyncIterator[Client]:
    """Makes clients of the listener that come with these certificates (leaf first)."""
    application = enrolment_app(mtls)
    opened: list[httpx.AsyncClient] = []

    def make(*chain: bytes, verified: bool = True, **headers: str) -> httpx.AsyncClient:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            kind = "client" if verified else "observed"
            tls = {f"{kind}_cert_der": chain[0] if chain else None, f"{kind}_chain_der": chain, "tls_version": 0x0304}
            scope["extensions"] = {"tls": tls}
            await application(scope, receive, send)

        transport = httpx.ASGITransport(app=app, client=("192.0.2.9", 4711))
        opened.append(httpx.AsyncClient(transport=transport, base_url="https://pki.example:1443", headers=headers))
        return opened[-1]

    yield make
    for each in opened:
        await each.aclose()
    await mtls.close()


async def test_a_certificate_is_recognised(client: Client, issued: IssuedIdentity) -> None:
    answer = await client(issued.certificate).get("/whoami")
    assert answer.status_code == 200
    found = answer.json()
    assert found["identity"] == issued.identity.name
    assert found["email"] == EMAIL
    assert found["kind"] == "user"
    assert found["serial"] == issued.serial.hex().upper()
    assert found["tls_version"] == "TLSv1.3"
    assert answer.headers["cache-control"] == "no-store"


async def reason(client: Client, *chain: bytes) -> tuple[int, str]:
    answer = await client(*chain, verified=False).get("/whoami")
    assert answer.json()["remedy"]
    return answer.status_code, answer.json()["code"]


def _self_signed(common_name: str, issuer: str | None = None, **validity: Any) -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), clock.now()
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or common_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    return built.public_bytes(Encoding.DER)


async def test_who_is_not_recognised_gets_the_reason(
    mtls: Mtls, client: Client, issued: IssuedIdentity
) -> None:
    assert await reason(client) == (401, "no_certificate")
    assert await reason(client, _self_signed("alice")) == (401, "self_signed")
    assert await reason(client, _self_signed("alice", "Elsewhere CA")) == (401, "unknown_ca")
    damaged = issued.certificate[:-3] + bytes(3)
    assert await reason(client, damaged) == (401, "bad_signature")
    assert await reason(client, b"\x30\x03\x02\x01\x01") == (401, "bad_signature")


async def test_an_expired_certificate_is_told_so(client: Client, issued: IssuedIdentity) -> None:
    with clock.frozen(issued.not_after + timedelta(seconds=5)):
        assert await reason(client, issued.certificate) == (401, "expired")
    with clock.frozen(issued.not_before - timedelta(seconds=5)):
        assert await reason(client, issued.certificate) == (401, "not_yet_valid")


async def test_a_revoked_certificate_is_refused_at_once(mtls: Mtls, client: Client, issued: IssuedIdentity) -> None:
    await revoking.revoke_binding(mtls, OPERATOR, issued.binding_id)
    assert await reason(client, issued.certificate) == (401, "revoked")
    renewal = await client(issued.certificate).get("/enrol/v1/renew")
    assert renewal.json()["code"] == "revoked"


async def test_a_status_that_cannot_be_looked_up_is_no_yes(
    mtls: Mtls, client: Client, issued: IssuedIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: Any) -> None:
        raise Unavailable("The database does not answer.")

    await client(issued.certificate).get("/whoami")
    monkeypatch.setattr(mtls.decider._status, "get", silent)
    assert await reason(client, issued.certificate) == (401, "status_unavailable")


async def test_certificates_of_every_domain_are_recognised(mtls: Mtls, client: Client, issued: IssuedIdentity) -> None:
    await make_domain(mtls, "dev.example", "dev")
    service = await issue(mtls, await make_service(mtls, "orders", "dev.example"))
    assert (await client(service.certificate).get("/whoami")).json()["environment"] == "dev"
    assert (await client(issued.certificate).get("/whoami")).json()["environment"] == "prod"


async def _renew(asking: httpx.AsyncClient, email: str | None = EMAIL, **changes: Any) -> httpx.Response:
    nonce = (await asking.get("/enrol/v1/renew")).json()
    assert set(nonce) >= {"identity", "email", "nonce"}
    values = {"identity": nonce["identity"], "email": email, "nonce": nonce["nonce"]} | changes
    return await asking.post("/enrol/v1/renew", json={"csr": csr(**values).decode()})


async def test_a_certificate_renews_itself_without_a_code(mtls: Mtls, client: Client, issued: IssuedIdentity) -> None:
    answer = await _renew(client(issued.certificate))
    assert answer.status_code == 200, answer.text
    renewed = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    old = x509.load_der_x509_certificate(issued.certificate)
    assert renewed.subject == old.subject
    assert renewed.serial_number != old.serial_number
    again = await client(renewed.public_bytes(Encoding.DER)).get("/whoami")
    assert again.json()["identity"] == issued.identity.name
    async with mtls.database.read() as view:
        query = text("SELECT replaced_by FROM mtls_binding WHERE id = :id")
        followed = await view.scalar(query, {"id": issued.binding_id})
    assert followed is not None


async def test_a_nonce_of_a_renewal_is_good_once_and_for_its_certificate(
    mtls: Mtls, client: Client, issued: IssuedIdentity
) -> None:
    asking = client(issued.certificate)
    nonce = (await asking.get("/enrol/v1/renew")).json()["nonce"]
    request = csr(issued.identity.name, EMAIL, nonce).decode()
    first = await asking.post("/enrol/v1/renew", json={"csr": request})
    assert first.status_code == 200
    assert (await asking.post("/enrol/v1/renew", json={"csr": request})).json() == first.json()
    other = csr(issued.identity.name, EMAIL, nonce).decode()
    assert (await asking.post("/enrol/v1/renew", json={"csr": other})).json()["code"] == "csr_mismatch"
    stranger = await issue(mtls, await make_service(mtls))
    refused = await client(stranger.certificate).post("/enrol/v1/renew", json={"csr": request})
    assert refused.json()["code"] == "csr_mismatch"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nonce": "guessed"}, "csr_mismatch"),
        ({"identity": "u-other"}, "csr_mismatch"),
        ({"email": "mallory@example.com"}, "csr_mismatch"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "csr_key_type"),
    ],
)
async def test_a_renewal_that_asks_for_something_else_is_refused(
    client: Client, issued: IssuedIdentity, changes: dict[str, Any], expected: str
) -> None:
    assert (await _renew(client(issued.certificate), **changes)).json()["code"] == expected


async def test_a_request_is_taken_as_pem_too(client: Client, issued: IssuedIdentity) -> None:
    asking = client(issued.certificate)
    nonce = (await asking.get("/enrol/v1/renew")).json()["nonce"]
    headers = {"content-type": "application/pkcs10"}
    answer = await asking.post("/enrol/v1/renew", content=csr(issued.identity.name, EMAIL, nonce), headers=headers)
    assert answer.status_code == 200, answer.text


async def test_nobody_renews_without_a_certificate(client: Client) -> None:
    assert (await client().get("/enrol/v1/renew")).json()["code"] == "no_certificate"
    assert (await client().post("/enrol/v1/renew", json={"csr": "x"})).json()["code"] == "no_certificate"


async def test_a_lost_device_is_shut_out_by_its_owner(client: Client, issued: IssuedIdentity) -> None:
    asking = client(issued.certificate)
    assert (await asking.post("/enrol/v1/revoke")).json() == {"revoked": 1}
    assert await reason(client, issued.certificate) == (401, "revoked")


async def test_a_suspended_identity_does_not_renew(mtls: Mtls, client: Client, issued: IssuedIdentity) -> None:
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_identity SET state = 'suspended'"))
    assert (await client(issued.certificate).get("/enrol/v1/renew")).json()["code"] == "identity-suspended"


async def test_the_console_of_this_host_may_ask_with_the_certificate_of_its_visitor(
    client: Client, issued: IssuedIdentity
) -> None:
    own = client(issued.certificate, origin=OWN_PAGE)
    for answer in (await own.get("/whoami"), await client(origin=OWN_PAGE).get("/whoami")):
        assert answer.headers["access-control-allow-origin"] == OWN_PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]
    preflight = await client(origin=OWN_PAGE).request("OPTIONS", "/enrol/v1/renew")
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://pki.example", "http://pki.example:8443"])
async def test_other_pages_learn_and_change_nothing(client: Client, issued: IssuedIdentity, origin: str) -> None:
    foreign = client(issued.certificate, origin=origin)
    answer = await foreign.get("/whoami")
    assert "access-control-allow-origin" not in answer.headers
    for path in ("/enrol/v1/revoke", "/enrol/v1/renew"):
        refused = await foreign.post(path, content=b"")
        assert refused.status_code == 403
        assert refused.json()["code"] == "origin-not-allowed"
    preflight = await client(origin=origin).request("OPTIONS", "/enrol/v1/renew")
    assert "access-control-allow-origin" not in preflight.headers
    assert (await client(issued.certificate).get("/whoami")).status_code == 200


async def test_a_private_key_is_refused_and_recorded(mtls: Mtls, client: Client, issued: IssuedIdentity) -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    answer = await client(issued.certificate).post("/enrol/v1/renew", json={"csr": key.decode()})
    assert answer.status_code == 400
    assert answer.json()["code"] == "private_key_received"
    assert key.decode().splitlines()[1] not in answer.text
    async with mtls.database.read() as view:
        rows = await view.all(text("SELECT actor, detail::text AS detail FROM audit_record "
                                   "WHERE action = 'enrolment.private-key-received'"))  # fmt: skip
    assert [row["actor"] for row in rows] == [issued.identity.uri]
    assert key.decode().splitlines()[1] not in rows[0]["detail"]


async def test_who_came_is_in_the_access_events(mtls: Mtls, client: Client, issued: IssuedIdentity) -> None:
    await client(issued.certificate).get("/whoami")
    await client().get("/whoami")
    await mtls.events.flush()
    async with mtls.database.read() as view:
        query = text("SELECT identity, decision, reason, ingress, source_ip FROM mtls_access_event ORDER BY id")
        found = [tuple(row.values()) for row in await view.all(query)]
    assert found == [
        (issued.identity.uri, "allow", "", "enrolment", "192.0.2.9"),
        ("", "deny", "no_certificate", "enrolment", "192.0.2.9"),
    ]


async def test_the_page_may_be_elsewhere(mtls: Mtls, client: Client) -> None:
    await set_live(mtls, "enrolment", page_url="https://enrol.example/enroll/")
    for origin, expected in (("https://enrol.example", True), ("https://enrol.example:8443", False)):
        answer = await client(origin=origin).get("/whoami")
        assert ("access-control-allow-origin" in answer.headers) is expected


async def test_an_unknown_path_is_a_problem(client: Client) -> None:
    assert (await client().get("/nothing")).json()["code"] == "not-found"


