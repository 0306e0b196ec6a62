"""Certificates for identities that ask for themselves: with the present certificate, or with a bootstrap token."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.mtls.automation.conftest import SOURCE, Client, new_key, sign, token_for
from tests.support.authority import OPERATOR, tenant
from tests.support.identities import issue, make_domain, make_request, make_service, make_user

from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Unavailable
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.automation import bootstrap, signing, token_text
from intaglio.mtls.automation.bootstrap import list_tokens, revoke_token
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import revoking
from intaglio.mtls.identities.bindings import list_bindings
from intaglio.mtls.identities.values import Identity, TrustDomain
from intaglio.x509.requests import parse_request


async def test_a_bootstrap_token_gets_a_certificate_with_all_that_belongs_to_it(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    made = await token_for(mtls, payments)
    answer = await sign(client(), made.text, common_name="root of all")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    certificate = x509.load_pem_x509_certificate(found["certificate"].encode())
    assert "CN=payments" in certificate.subject.rfc4514_string()
    assert found["identity"] == payments.uri
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [payments.uri]
    assert names.get_values_for_type(x509.DNSName) == ["payments.prod.example"]
    assert len(found["bundle"]) == 1
    assert found["chain"]
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert found["renew_after_seconds"] == int(life.total_seconds() * 2 / 3)
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert found["crl_urls"] == [name.value for point in points for name in point.full_name or ()]
    assert answer.headers["cache-control"] == "no-store"


async def test_attributes_come_from_the_registry_and_not_from_the_request(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    made = await token_for(mtls, payments)
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "payments"),
            x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "administrators"),
        ]
    )
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = builder.sign(new_key(), SHA256()).public_bytes(Encoding.PEM).decode()
    headers = {"authorization": f"Bearer {made.text}"}
    answer = await client().post("/mtls/v1/sign", json={"csr": csr}, headers=headers)
    found = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    assert "OU=finance" in found.subject.rfc4514_string()
    assert "administrators" not in found.subject.rfc4514_string()


async def test_a_token_is_good_once(mtls: Mtls, client: Client, payments: Identity) -> None:
    made = await token_for(mtls, payments)
    assert (await sign(client(), made.text)).status_code == 200
    again = await sign(client(), made.text)
    assert (again.status_code, again.json()["code"]) == (409, "bootstrap-token-used")


async def test_the_same_request_again_gets_the_same_certificate(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    made, key = await token_for(mtls, payments), new_key()
    first, second = await sign(client(), made.text, key), await sign(client(), made.text, key)
    assert second.status_code == 200, second.text
    assert first.json()["serial"] == second.json()["serial"]


async def test_a_refused_request_leaves_the_token_usable(mtls: Mtls, client: Client, payments: Identity) -> None:
    made = await token_for(mtls, payments)
    refused = await sign(client(), made.text, lifetime="P30D")
    assert (refused.status_code, refused.json()["code"]) == (422, "lifetime-above-ceiling")
    refused = await sign(client(), made.text, dns_names=["admin.prod.example"])
    assert refused.json()["code"] == "dns-name-not-registered"
    assert (await sign(client(), made.text, lifetime="PT6H")).status_code == 200


async def test_a_ca_that_is_away_leaves_the_token_good_for_the_same_key(
    mtls: Mtls, client: Client, payments: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise Unavailable("The database does not answer.")

    made, key = await token_for(mtls, payments), new_key()
    with monkeypatch.context() as patched:
        patched.setattr(signing, "issue_identity", away)
        assert (await sign(client(), made.text, key)).status_code == 503
    assert (await sign(client(), made.text, key)).status_code == 200


async def test_a_wrong_token_is_told_nothing_and_counts(mtls: Mtls, client: Client, payments: Identity) -> None:
    made = await token_for(mtls, payments)
    handle = made.token.handle
    unknown = token_text.new_bootstrap()
    body = token_text._complete(token_text.BOOTSTRAP, 43)[4:-6]
    guess = token_text.BOOTSTRAP + handle + body
    guess += token_text._checksum(token_text.BOOTSTRAP, handle + body)
    answers = [(await sign(client(), guess)).json()["code"] for _ in range(5)]
    assert answers == ["bootstrap-token-invalid"] * 5
    assert (await sign(client(), unknown)).json()["code"] == "bootstrap-token-invalid"
    locked = await sign(client(), made.text)
    assert (locked.status_code, locked.json()["code"]) == (403, "bootstrap-token-locked")


async def test_a_token_ends(mtls: Mtls, client: Client, payments: Identity) -> None:
    revoked, late = await token_for(mtls, payments), await token_for(mtls, payments, hours=1)
    assert (await revoke_token(mtls, OPERATOR, revoked.token.handle)).state == "revoked"
    assert (await sign(client(), revoked.text)).json()["code"] == "bootstrap-token-revoked"
    async with mtls.database.transaction() as tx:
        ended = text("UPDATE mtls_bootstrap_token SET expires_at = now() WHERE id = :id")
        await tx.execute(ended, {"id": late.token.id})
    assert (await sign(client(), late.text)).json()["code"] == "bootstrap-token-expired"


async def test_a_token_is_bound_to_networks_and_purpose(mtls: Mtls, client: Client, payments: Identity) -> None:
    near = await token_for(mtls, payments, networks=["198.51.100.0/24", "2001:db8::/32"])
    assert (await sign(client(), near.text)).json()["code"] == "bootstrap-token-network"
    assert (await sign(client(source="2001:db8::7"), near.text)).status_code == 200
    other = await token_for(mtls, payments, purpose="approle")
    assert (await sign(client(), other.text)).json()["code"] == "bootstrap-token-purpose"


async def test_failures_of_one_address_are_limited(mtls: Mtls, client: Client, payments: Identity) -> None:
    from tests.mtls.enrolment.conftest import set_live

    await set_live(mtls, "automation", failures_per_minute=3)
    codes = [(await sign(client(), token_text.new_bootstrap())).status_code for _ in range(4)]
    assert codes == [401, 401, 401, 429]


async def test_the_token_is_kept_only_as_a_hash(mtls: Mtls, client: Client, payments: Identity) -> None:
    made = await token_for(mtls, payments)
    assert made.text not in repr(made)
    async with mtls.database.read() as view:
        rows = await view.all(text("SELECT row_to_json(t)::text AS t FROM mtls_bootstrap_token t"))
        trail = await view.all(text("SELECT row_to_json(t)::text AS t FROM audit_record t"))
    assert made.text[16:] not in "".join(row["t"] for row in [*rows, *trail])
    assert any("bootstrap-token.create" in row["t"] for row in trail)


async def test_who_may_make_tokens(mtls: Mtls, payments: Identity) -> None:
    stranger = Principal("user", "eve", frozenset({Permission.MTLS_VIEW}))
    with pytest.raises((Forbidden, NotFound)):
        await bootstrap.create_token(mtls, stranger, bootstrap.NewBootstrapToken(payments.id))
    elsewhere = tenant("mallory")
    with pytest.raises(NotFound):
        await bootstrap.create_token(mtls, elsewhere, bootstrap.NewBootstrapToken(payments.id))
    made = await token_for(mtls, payments)
    with pytest.raises(NotFound):
        await revoke_token(mtls, elsewhere, made.token.id)
    assert (await list_tokens(mtls, elsewhere, ListQuery())).tokens == []
    page = await list_tokens(mtls, OPERATOR, ListQuery(filter=["state=usable"]))
    assert [each.id for each in page.tokens] == [made.token.id]
    with pytest.raises(InvalidInput):
        await token_for(mtls, payments, max_uses=None)


async def test_a_certificate_gets_the_next_one(mtls: Mtls, client: Client, payments: Identity) -> None:
    first = await issue(mtls, payments)
    answer = await sign(client(first.certificate))
    assert answer.status_code == 200, answer.text
    page = await list_bindings(mtls, OPERATOR, ListQuery())
    states = {each.serial_hex: (each.state, each.channel) for each in page.bindings}
    assert states[answer.json()["serial"]] == ("valid", "agent")
    assert states[first.serial.hex().upper()][0] == "superseded"


async def test_certificates_that_do_not_count_get_nothing(mtls: Mtls, client: Client, payments: Identity) -> None:
    assert (await sign(client())).json()["code"] == "no_certificate"
    issued = await issue(mtls, payments)
    with clock.frozen(issued.not_after + timedelta(seconds=1)):
        assert (await sign(client(issued.certificate))).json()["code"] == "expired"
    await revoking.revoke_binding(mtls, OPERATOR, issued.binding_id)
    answer = await sign(client(issued.certificate))
    assert (answer.status_code, answer.json()["code"]) == (401, "revoked")


async def test_a_suspended_identity_gets_nothing(mtls: Mtls, client: Client, payments: Identity) -> None:
    made = await token_for(mtls, payments)
    await revoking.suspend_identity(mtls, OPERATOR, payments.id)
    answer = await sign(client(), made.text)
    assert (answer.status_code, answer.json()["code"]) == (403, "identity-suspended")
    await revoking.resume_identity(mtls, OPERATOR, payments.id)
    assert (await sign(client(), made.text)).status_code == 200


async def test_somebody_elses_key_is_refused(mtls: Mtls, client: Client, payments: Identity) -> None:
    key = new_key()
    await issue(mtls, await make_service(mtls, "orders"), key=key)
    made = await token_for(mtls, payments)
    assert (await sign(client(), made.text, key)).json()["code"] == "key_reused"


async def test_a_private_key_in_the_request_is_refused_and_noted(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = await token_for(mtls, payments)
    pem = new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    headers = {"authorization": f"Bearer {made.text}", "content-type": "application/x-pem-file"}
    answer = await client().post("/mtls/v1/sign", content=make_request() + pem, headers=headers)
    assert answer.json()["code"] == "private_key_received"


async def test_a_bare_request_will_do(mtls: Mtls, client: Client, payments: Identity) -> None:
    made = await token_for(mtls, payments)
    headers = {"authorization": f"Bearer {made.text}", "content-type": "application/x-pem-file"}
    assert (await client().post("/mtls/v1/sign", content=make_request(), headers=headers)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"csr": 1}', b'{"csr": "x", "team": "root"}', b"\xff" * 40])
async def test_bodies_that_are_none_are_refused(mtls: Mtls, client: Client, payments: Identity, body: bytes) -> None:
    made = await token_for(mtls, payments)
    for kind in ("application/json", "application/octet-stream"):
        headers = {"authorization": f"Bearer {made.text}", "content-type": kind}
        answer = await client().post("/mtls/v1/sign", content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


async def test_people_are_sent_to_enrolment(mtls: Mtls, client: Client, trust_domain: TrustDomain) -> None:
    user = await make_user(mtls)
    with pytest.raises(Forbidden) as refused:
        await token_for(mtls, user)
    assert refused.value.code == "identity-is-a-person"
    certificate = (await issue(mtls, user)).certificate
    assert (await sign(client(certificate))).json()["code"] == "identity-is-a-person"
    assert (await client(certificate).post("/v1/auth/cert/login")).status_code == 403


async def test_a_token_of_another_environment_stays_there(
    mtls: Mtls, client: Client, trust_domain: TrustDomain
) -> None:
    await make_domain(mtls, "dev.example", "dev")
    made = await token_for(mtls, await make_service(mtls, "payments", "dev.example"))
    assert (await sign(client(), made.text)).json()["identity"].startswith("spiffe://dev.example/")


@given(st.text(max_size=80) | st.from_regex(r"igb_[0-9A-Za-z]{61}", fullmatch=True))
def test_texts_that_are_no_tokens_are_none(given_text: str) -> None:
    handle = token_text.handle_of(given_text)
    assert handle is None or given_text.startswith(token_text.BOOTSTRAP + handle)
    assert not token_text.is_login(given_text)


async def test_programs_that_keep_oid_arcs_in_31_bits_can_read_a_certificate(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    """Go's crypto/x509 refuses a whole certificate for one longer arc, whatever the extension."""
    found = (await sign(client(), (await token_for(mtls, payments)).text)).json()
    for pem in (found["certificate"], *found["chain"]):
        for extension in x509.load_pem_x509_certificate(pem.encode()).extensions:
            assert all(int(arc) < 1 << 31 for arc in extension.oid.dotted_string.split("."))


async def test_a_refused_request_gives_no_use_back_that_another_one_was_served_by(
    mtls: Mtls, client: Client, payments: Identity
) -> None:
    token, key = await token_for(mtls, payments), new_key()
    spki_sha256 = hashlib.sha256(parse_request(make_request(key)).spki).digest()
    slow = await bootstrap.redeem(mtls, token.text, "sign", SOURCE, spki_sha256=spki_sha256)
    assert (await sign(client(), token.text, key)).status_code == 200
    await bootstrap.give_back(mtls, slow, spki_sha256)
    assert (await sign(client(), token.text, new_key())).json()["code"] == "bootstrap-token-used"
