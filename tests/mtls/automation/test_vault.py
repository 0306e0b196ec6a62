"""The Vault-compatible interface: logins, certificates, and errors in the shape its clients read."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.mtls.automation import conftest as automation
from tests.mtls.automation.conftest import Client, token_for
from tests.mtls.enrolment.conftest import set_live
from tests.support.authority import OPERATOR
from tests.support.identities import issue, make_request, make_service

from intaglio.authority.crls.issue import issue_crl
from intaglio.core.effort import Effort
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.mtls.automation import logins
from intaglio.mtls.automation.bootstrap import CreatedToken, revoke_token
from intaglio.mtls.automation.vault import answers, pki, reading
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import revoking
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.bindings import live_bindings
from intaglio.mtls.identities.rotation import finish_rotation, give_ca
from intaglio.mtls.identities.values import Identity


async def by_certificate(mtls: Mtls, client: Client, identity: Identity) -> tuple[httpx.AsyncClient, str]:
    """A client with a certificate of the identity, and the token it logged in for."""
    asking = client((await issue(mtls, identity)).certificate)
    answer = await asking.post("/v1/auth/cert/login", json={})
    assert answer.status_code == 200, answer.text
    return asking, answer.json()["auth"]["client_token"]


def with_token(token: str) -> dict[str, str]:
    return {"x-vault-token": token}


async def sign(asking: httpx.AsyncClient, token: str, role: str = "payments", **body: Any) -> httpx.Response:
    body = {"csr": make_request().decode()} | body
    return await asking.put(f"/v1/pki/sign/{role}", json=body, headers=with_token(token))


async def approle(asking: httpx.AsyncClient, secret: CreatedToken, role: str = "payments") -> httpx.Response:
    return await asking.post("/v1/auth/approle/login", json={"role_id": role, "secret_id": secret.text})


async def test_a_certificate_logs_in_and_signs(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking, token = await by_certificate(mtls, client, payments)
    answer = await sign(asking, token, ttl="6h")
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    certificate = x509.load_pem_x509_certificate(data["certificate"].encode())
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 6 * 3600 <= life.total_seconds() <= 6.1 * 3600
    assert data["serial_number"].replace(":", "") == f"{certificate.serial_number:040x}"
    issuer = x509.load_pem_x509_certificate(data["issuing_ca"].encode())
    certificate.verify_directly_issued_by(issuer)
    chain = [x509.load_pem_x509_certificate(each.encode()) for each in data["ca_chain"]]
    assert chain[0] == issuer
    assert chain[-1].issuer == chain[-1].subject
    assert data["expiration"] == int(certificate.not_valid_after_utc.timestamp())


async def test_a_secret_logs_in_as_often_as_it_was_made_for(mtls: Mtls, client: Client, payments: Identity) -> None:
    secret = await token_for(mtls, payments, purpose="approle", max_uses=2)
    codes = [(await approle(client(), secret)).status_code for _ in range(3)]
    assert codes == [200, 200, 400]
    endless = await token_for(mtls, payments, purpose="approle", max_uses=None)
    assert [(await approle(client(), endless, "service:payments")).status_code for _ in range(3)] == [200, 200, 200]
    assert (await approle(client(), endless, "orders")).status_code == 403
    for_agents = await token_for(mtls, payments)
    assert (await approle(client(), for_agents)).status_code == 403


async def test_issue_makes_a_key(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking, token = await by_certificate(mtls, client, payments)
    for kind, form in (("ec", "pkcs8"), ("rsa", "der")):
        body = {"common_name": "payments", "key_type": kind, "private_key_format": form}
        answer = await asking.post("/v1/pki/issue/payments", json=body, headers=with_token(token))
        data = answer.json()["data"]
        key: Any = load_pem_private_key(data["private_key"].encode(), None)
        certificate = x509.load_pem_x509_certificate(data["certificate"].encode())
        assert key.public_key() == certificate.public_key()
        assert data["private_key_type"] == kind
        assert ("BEGIN PRIVATE KEY" in data["private_key"]) is (form == "pkcs8")
    bundle = {"format": "pem_bundle"}
    answer = await asking.post("/v1/pki/issue/payments", json=bundle, headers=with_token(token))
    assert answer.json()["data"]["certificate"].count("-----BEGIN") == 3
    async with mtls.database.read() as view:
        handed_out = "SELECT count(*) FROM audit_record WHERE action = 'private-key.hand-out'"
        assert await view.scalar(text(handed_out)) == 3
    await set_live(mtls, "automation", issue_with_key=False)
    answer = await asking.post("/v1/pki/issue/payments", json={}, headers=with_token(token))
    assert answer.status_code == 403
    assert "(issue-disabled)" in answer.json()["errors"][0]


async def test_an_identity_gets_so_many_certificates_and_logins_in_a_minute(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    asking, token = await by_certificate(mtls, client, payments)
    await set_live(mtls, "automation", issues_per_minute=2)
    answers = [await sign(asking, token) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    logins = [await asking.post("/v1/auth/cert/login", json={}) for _ in range(2)]
    assert [each.status_code for each in logins] == [200, 429]  # the first login was one, too
    renewal = await automation.sign(asking)
    assert (renewal.status_code, renewal.json()["code"]) == (429, "rate_limited")


async def test_making_keys_for_one_identity_leaves_room_for_others(
    mtls: Mtls, client: Client, payments: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "costly", Effort(budget=0.0, regained=0.001))
    asking, token = await by_certificate(mtls, client, payments)
    answer = await asking.put("/v1/pki/issue/payments", json={"key_type": "rsa"}, headers=with_token(token))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert (await sign(asking, token)).status_code == 200


async def test_more_life_than_allowed_is_cut_with_a_warning(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking, token = await by_certificate(mtls, client, payments)
    answer = (await sign(asking, token, ttl="2160h0m0s")).json()
    certificate = x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life.total_seconds() <= 72.1 * 3600
    assert "PT72H" in answer["warnings"][0]


async def test_only_names_of_the_identity_are_certified(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking, token = await by_certificate(mtls, client, payments)
    good = await sign(asking, token, common_name="payments", alt_names="a.payments.prod.example,payments.prod.example")
    certificate = x509.load_pem_x509_certificate(good.json()["data"]["certificate"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"payments.prod.example", "a.payments.prod.example"}
    for wrong in (
        {"alt_names": "www.example.com"},
        {"common_name": "admin.prod.example"},
        {"ip_sans": "10.0.0.1"},
        {"uri_sans": "spiffe://prod.example/env/prod/svc/orders"},
        {"other_sans": "1.2.3.4;UTF8:root"},
        {"not_after": "2099-01-01T00:00:00Z"},
        {"ttl": "one day"},
        {"format": "xml"},
        {"csr": "nonsense"},
        {"csr": ""},
    ):
        answer = await sign(asking, token, **wrong)
        assert answer.status_code == 400, wrong
        assert set(answer.json()) == {"errors"}
    assert (await sign(asking, token, uri_sans=payments.uri)).status_code == 200


async def test_a_token_is_good_for_its_own_role_and_mount(mtls: Mtls, client: Client, payments: Identity) -> None:
    await make_service(mtls, "orders")
    asking, token = await by_certificate(mtls, client, payments)
    assert (await sign(asking, token, role="orders")).status_code == 403
    body, headers = {"csr": make_request().decode()}, with_token(token)
    assert (await asking.put("/v1/prod.example/sign/payments", json=body, headers=headers)).status_code == 200
    assert (await asking.put("/v1/dev.example/sign/payments", json=body, headers=headers)).status_code == 403
    answer = await asking.put("/v1/pki/sign-verbatim/payments", json=body, headers=headers)
    assert answer.status_code == 403
    assert "(sign-verbatim-refused)" in answer.json()["errors"][0]


async def test_a_token_describes_renews_and_ends_itself(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking, token = await by_certificate(mtls, client, payments)
    headers = {"authorization": f"Bearer {token}"}
    found = (await asking.get("/v1/auth/token/lookup-self", headers=headers)).json()["data"]
    assert found["id"] == token
    assert found["meta"]["identity"] == payments.uri
    assert 0 < found["ttl"] <= 3600
    renewed = await asking.put("/v1/auth/token/renew-self", json={"increment": "60s"}, headers=headers)
    assert 0 < renewed.json()["auth"]["lease_duration"] <= 60
    assert (await asking.post("/v1/auth/token/revoke-self", headers=headers)).status_code == 204
    assert (await asking.get("/v1/auth/token/lookup-self", headers=headers)).status_code == 403
    assert (await sign(asking, token)).status_code == 403


async def test_a_login_ends_with_what_it_rests_on(mtls: Mtls, client: Client, payments: Identity) -> None:
    first = await issue(mtls, payments)
    asking = client(first.certificate)
    by_cert = (await asking.post("/v1/auth/cert/login")).json()["auth"]["client_token"]
    secret = await token_for(mtls, payments, purpose="approle")
    by_secret = (await approle(client(), secret)).json()["auth"]["client_token"]
    await revoking.revoke_binding(mtls, OPERATOR, first.binding_id)
    assert (await sign(client(), by_cert)).status_code == 403
    assert (await sign(client(), by_secret)).status_code == 200
    await revoke_token(mtls, OPERATOR, secret.token.id)
    assert (await sign(client(), by_secret)).status_code == 403


async def test_a_login_ends_with_the_ca_of_its_certificate(mtls: Mtls, client: Client, payments: Identity) -> None:
    first = await issue(mtls, payments)
    by_cert = (await client(first.certificate).post("/v1/auth/cert/login")).json()["auth"]["client_token"]
    await give_ca(mtls, OPERATOR, payments.domain.name, new_ca=NewCaWish())
    assert (await sign(client(), by_cert)).status_code == 200
    await finish_rotation(mtls, OPERATOR, payments.domain.name, force=True)
    assert (await sign(client(), by_cert)).status_code == 403


async def test_what_a_certificate_got_by_logging_in_ends_with_it(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    stolen = await issue(mtls, payments)
    asking = client(stolen.certificate)
    token = (await asking.post("/v1/auth/cert/login")).json()["auth"]["client_token"]
    assert (await sign(asking, token)).status_code == 200
    await revoking.revoke_binding(mtls, OPERATOR, stolen.binding_id)
    async with mtls.database.read() as view:
        assert not await live_bindings(view, payments.id)


async def test_a_login_ends_with_its_identity_and_its_time(mtls: Mtls, client: Client, payments: Identity) -> None:
    secret = await token_for(mtls, payments, purpose="approle", max_uses=None)
    token = (await approle(client(), secret)).json()["auth"]["client_token"]
    await revoking.suspend_identity(mtls, OPERATOR, payments.id)
    assert "(identity-suspended)" in (await sign(client(), token)).json()["errors"][0]
    await revoking.resume_identity(mtls, OPERATOR, payments.id)
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_login SET expires_at = now() - interval '2 seconds'"))
    assert (await sign(client(), token)).status_code == 403
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_login SET expires_at = now() - interval '31 days'"))
        await tx.execute(text("UPDATE mtls_bootstrap_token SET expires_at = now() - interval '31 days'"))
    await logins.prune(mtls.database)
    async with mtls.database.read() as view:
        assert await view.scalar(text("SELECT count(*) FROM mtls_login")) == 0
        assert await view.scalar(text("SELECT count(*) FROM mtls_bootstrap_token")) == 0


async def test_tokens_are_kept_only_as_hashes(mtls: Mtls, client: Client, payments: Identity) -> None:
    _, token = await by_certificate(mtls, client, payments)
    async with mtls.database.read() as view:
        rows = await view.all(text("SELECT row_to_json(t)::text AS t FROM mtls_login t"))
        trail = await view.all(text("SELECT row_to_json(t)::text AS t FROM audit_record t"))
    assert token not in "".join(row["t"] for row in [*rows, *trail])
    assert any("login.open" in row["t"] for row in trail)


async def test_an_identity_revokes_its_own_certificates_only(mtls: Mtls, client: Client, payments: Identity) -> None:
    other = await issue(mtls, await make_service(mtls, "orders"))
    asking, token = await by_certificate(mtls, client, payments)
    mine = (await sign(asking, token)).json()["data"]
    headers = with_token(token)
    answer = await asking.put("/v1/pki/revoke", json={"serial_number": mine["serial_number"]}, headers=headers)
    assert answer.json()["data"]["state"] == "revoked"
    assert answer.json()["data"]["revocation_time"] > 0
    answer = await asking.put("/v1/pki/revoke", json={"serial_number": other.serial.hex("-")}, headers=headers)
    assert answer.status_code == 403
    assert (await asking.put("/v1/pki/revoke", json={}, headers=headers)).status_code == 400


async def test_what_is_public_of_a_trust_domain(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking = client()
    ca = x509.load_der_x509_certificate((await asking.get("/v1/pki/ca")).content)
    assert x509.load_pem_x509_certificate((await asking.get("/v1/prod.example/ca/pem")).content) == ca
    chain = x509.load_pem_x509_certificates((await asking.get("/v1/pki/ca_chain")).content)
    assert chain[0] == ca
    assert chain[-1].subject == chain[-1].issuer
    told = (await asking.get("/v1/pki/cert/ca")).json()["data"]
    assert x509.load_pem_x509_certificate(told["certificate"].encode()) == ca
    assert (await asking.get("/v1/pki/cert/ca_chain")).status_code == 200
    issuing = (await mtls.authority.current()).ca(payments.domain.issuing_ca)
    await issue_crl(mtls.authority, OPERATOR, issuing)
    crl = x509.load_der_x509_crl((await asking.get("/v1/pki/crl")).content)
    assert crl.issuer == ca.subject
    assert x509.load_pem_x509_crl((await asking.get("/v1/pki/crl/pem")).content).issuer == ca.subject
    told = (await asking.get("/v1/pki/cert/crl")).json()["data"]
    assert x509.load_pem_x509_crl(told["certificate"].encode()).issuer == ca.subject
    assert (await asking.get("/v1/pki/cert/aa:bb")).status_code == 404
    assert (await asking.get("/v1/secret/ca")).status_code == 404


async def test_errors_have_the_shape_that_clients_read(mtls: Mtls, client: Client, payments: Identity) -> None:
    asking = client()
    for answer, status in (
        (await asking.get("/v1/secret/data/x/y/z"), 404),
        (await asking.get("/v1/pki/sign/payments"), 405),
        (await asking.put("/v1/pki/sign/payments", content=b"{}"), 403),
        (await asking.put("/v1/auth/cert/login", content=b"[1"), 400),
        (await asking.put("/v1/auth/cert/login", content=b""), 403),
        (await asking.put("/v1/auth/approle/login", json={"role_id": "x"}), 403),
        (await asking.put("/v1/auth/jwt/login", json={"role": "x", "jwt": "a.b.c"}), 403),
        (await asking.get("/v1/auth/token/lookup-self", headers=with_token("hvs.x")), 403),
    ):
        assert answer.status_code == status, answer.request.url
        assert set(answer.json()) == {"errors"}
        assert all(isinstance(each, str) for each in answer.json()["errors"])


async def test_health_says_whether_certificates_can_be_had(
    mtls: Mtls, client: Client, payments: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await client().get("/v1/sys/health")
    assert (found.status_code, found.json()["initialized"], found.json()["sealed"]) == (200, True, False)

    async def away() -> None:
        raise IntaglioError("The database does not answer.")

    monkeypatch.setattr(mtls.database, "ping", away)
    found = await client().get("/v1/sys/health")
    assert (found.status_code, found.json()["sealed"]) == (503, True)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("", None), (None, None), ("0", None), ("3600", 3600), ("24h", 86400), ("1h30m", 5400), ("2160h0m0s", 7776000)],
)
def test_durations_are_read_as_go_writes_them(written: str | None, seconds: int | None) -> None:
    found = answers.duration(written, target="ttl")
    assert (found.total_seconds() if found else None) == seconds


@given(st.text(max_size=50))
def test_what_is_no_duration_is_refused_or_read(written: str) -> None:
    try:
        found = answers.duration(written, target="ttl")
    except InvalidInput:
        return
    assert found is None or found.total_seconds() >= 0


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["csr", "ttl"]), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=100) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for model in (reading.Sign, reading.Issue, reading.Revocation, reading.JwtLogin):
        with contextlib.suppress(InvalidInput):
            assert isinstance(reading.parse(body, model), model)
