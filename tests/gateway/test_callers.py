"""Who gets in, and what he sees."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.gateway.conftest import Refusals, configure
from tests.gateway.support import CA_PATH, Client, wish
from tests.support.authority import OPERATOR, root_wish

from intaglio.authority import organizations
from intaglio.authority.cas.create import create_root
from intaglio.authority.context import Authority
from intaglio.authority.credentials import reissue_credential, revoke_credential
from intaglio.authority.rights import grant_right, revoke_right
from intaglio.core import clock
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.gateway.api import gateway_app
from intaglio.gateway.callers import Caller
from intaglio.gateway.roles import Role
from intaglio.gateway.service import Gateway


def forged(original: bytes, *, subject: x509.Name | None = None) -> bytes:
    """A certificate with the issuer, subject and serial number of another one, signed by somebody else."""
    real = x509.load_der_x509_certificate(original)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or real.subject)
        .issuer_name(real.issuer)
        .public_key(key.public_key())
        .serial_number(real.serial_number)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def test_without_a_client_certificate_the_answer_is_401(clients: dict[str, Client]) -> None:
    answer = await Client(clients["integrator"].app).get(CA_PATH)
    assert (answer.status, answer.code) == (401, "cagw-4010")


async def test_a_certificate_that_only_names_our_client_ca_is_refused(integrator: Client) -> None:
    assert integrator.certificate is not None
    answer = await Client(integrator.app, forged(integrator.certificate)).get(CA_PATH)
    assert (answer.status, answer.code) == (401, "cagw-4010")


async def test_a_certificate_issued_to_a_subscriber_is_no_client_credential(integrator: Client) -> None:
    issued = await integrator.enroll(wish(profileId="privatessl-tls-client"))
    subscriber = Client(integrator.app, issued.certificate.public_bytes(Encoding.DER))
    answer = await subscriber.get(CA_PATH)
    assert (answer.status, answer.code) == (401, "cagw-4010")


async def test_octets_that_are_no_certificate_are_refused(integrator: Client) -> None:
    answer = await Client(integrator.app, b"\x30\x03\x02\x01\x00").get(CA_PATH)
    assert (answer.status, answer.code) == (401, "cagw-4010")


async def test_an_expired_client_certificate_is_refused(integrator: Client) -> None:
    with clock.frozen(clock.now() + timedelta(days=5000)):
        answer = await integrator.get(CA_PATH)
    assert (answer.status, answer.code) == (401, "cagw-4011")


async def test_a_revoked_client_certificate_is_refused_at_once(authority: Authority, integrator: Client) -> None:
    assert (await integrator.get(CA_PATH)).status == 200
    await revoke_credential(authority, OPERATOR, "demo", "integrator")
    answer = await integrator.get(CA_PATH)
    assert (answer.status, answer.code) == (401, "cagw-4011")


async def test_a_reissued_credential_works_and_the_old_one_does_not(authority: Authority, integrator: Client) -> None:
    fresh = await reissue_credential(authority, OPERATOR, "demo", "integrator")
    assert (await Client(integrator.app, fresh.certificate).get(CA_PATH)).status == 200
    assert (await integrator.get(CA_PATH)).code == "cagw-4011"


async def test_a_ca_without_a_grant_looks_exactly_like_one_that_does_not_exist(clients: dict[str, Client]) -> None:
    tenant = clients["policy-override-tenant"]
    hidden, unknown = await tenant.get(f"{CA_PATH}/demo~root"), await tenant.get(f"{CA_PATH}/demo~none")
    assert (hidden.status, hidden.code) == (unknown.status, unknown.code) == (404, "cagw-4018")
    assert hidden.body.replace(b"demo~root", b"demo~none") == unknown.body


async def test_a_tenant_lists_one_ca_and_an_integrator_all_of_his(clients: dict[str, Client]) -> None:
    async def seen(name: str) -> list[str]:
        return [ca["id"] for ca in (await clients[name].get(CA_PATH)).json["caList"]]

    assert await seen("policy-constrained-tenant") == ["demo~issuing"]
    assert await seen("integrator") == ["demo~issuing", "demo~root"]
    assert await seen("auditor") == ["demo~issuing", "demo~root"]


async def test_whoever_lost_his_grant_can_do_nothing_from_then_on(
    authority: Authority, clients: dict[str, Client]
) -> None:
    tenant = clients["policy-override-tenant"]
    assert (await tenant.enroll(wish())).status == 200
    await revoke_right(authority, OPERATOR, "demo~issuing", "policy-override-tenant")
    assert (await tenant.enroll(wish())).status in (403, 404)
    assert (await tenant.get(CA_PATH)).json.get("caList", []) == []


async def test_a_grant_withdrawn_on_another_process_holds_here_too(
    authority: Authority, clients: dict[str, Client]
) -> None:
    """The other process tells nobody: the commit itself must notice."""
    tenant = clients["policy-override-tenant"]
    other = Authority(authority.settings, authority.database, authority.keystore)
    assert (await tenant.enroll(wish())).status == 200
    serial = (await tenant.enroll(wish())).enrolled["serialNumber"]
    await revoke_right(other, OPERATOR, "demo~issuing", "policy-override-tenant")
    assert (await tenant.enroll(wish())).status in (403, 404)
    refused = await tenant.act(serial, type="RevokeAction")
    assert refused.status in (403, 404)


async def test_reads_are_decided_on_the_configuration_of_now_when_news_may_have_been_missed(
    authority: Authority, clients: dict[str, Client]
) -> None:
    app = gateway_app(authority, is_current=lambda: False)
    tenant = Client(app, clients["read-only-tenant"].certificate)
    assert (await tenant.get(f"{CA_PATH}/demo~issuing")).status == 200
    other = Authority(authority.settings, authority.database, authority.keystore)
    await revoke_right(other, OPERATOR, "demo~issuing", "read-only-tenant")
    assert (await tenant.get(f"{CA_PATH}/demo~issuing")).status in (403, 404)


async def test_the_client_cas_themselves_are_nobodys_to_use(authority: Authority, app: object) -> None:
    gateway = Gateway(authority)
    snapshot = await gateway.snapshot()
    inner = [ca.full_id for ca in snapshot.cas.values() if ca.kind in ("client", "platform")]
    operator = Caller.of_principal(OPERATOR, None)
    assert inner
    for ca_id in inner:
        with pytest.raises(NotFound):
            operator.access(snapshot, ca_id)


async def test_a_user_of_the_management_api_gets_his_role_from_his_permissions(
    authority: Authority, clients: dict[str, Client]
) -> None:
    snapshot = await authority.snapshot()
    demo = snapshot.ca("demo~issuing").organization_id
    viewer = Principal("user", "vera", frozenset({Permission.CA_VIEW}))
    worker = Principal("user", "otto", frozenset({Permission.CA_VIEW, Permission.CA_OPERATE}))
    here = frozenset({demo})
    assert Caller.of_principal(viewer, here).access(snapshot, "demo~issuing").role is Role.READ_ONLY_INTEGRATOR
    assert Caller.of_principal(worker, here).access(snapshot, "demo~issuing").role is Role.INTEGRATOR
    with pytest.raises(NotFound):
        Caller.of_principal(worker, frozenset()).access(snapshot, "demo~issuing")


async def test_a_client_of_another_organization_sees_nothing_here(
    authority: Authority, clients: dict[str, Client]
) -> None:
    await organizations.create_organization(authority, OPERATOR, "other")
    created = await create_root(authority, OPERATOR, "other", root_wish(administrators=["integrator"]))
    stranger = Client(clients["integrator"].app, created.credentials[0].certificate)
    assert [ca["id"] for ca in (await stranger.get(CA_PATH)).json["caList"]] == ["other~root"]
    assert (await stranger.enroll(wish())).code == "cagw-4018"


async def test_the_right_given_last_is_the_one_that_counts(authority: Authority, clients: dict[str, Client]) -> None:
    tenant = clients["read-only-tenant"]
    assert (await tenant.enroll(wish())).code == "cagw-4014"
    await grant_right(authority, OPERATOR, "demo~issuing", "read-only-tenant", "policy-override-tenant")
    assert (await tenant.enroll(wish())).status == 200


async def test_refusals_are_recorded_with_who_what_and_why(clients: dict[str, Client], refusals: Refusals) -> None:
    await clients["read-only-tenant"].enroll(wish())
    principal, action, kind, about, error, organization = refusals.recorded[-1]
    assert principal.name == "CN=read-only-tenant,O=demo"
    assert principal.source == "192.0.2.7"
    assert (action, kind, about) == ("certificate.issue", "certificate", "demo~issuing/privatessl-tls-server")
    assert (error.code, organization) == ("role-lacks-permission", "demo")


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(
    authority: Authority, clients: dict[str, Client]
) -> None:
    await configure(authority, requests_per_second=0.001, burst=2)
    busy, calm = clients["integrator"], clients["auditor"]
    answers = [await busy.get(CA_PATH) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].code == "cagw-4029"
    assert 900 <= int(answers[2].headers["retry-after"]) <= 1000
    assert (await calm.get(CA_PATH)).status == 200
