"""A gateway that decides by a registered ingress: in the process of the platform, and over HTTP from elsewhere."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.mtls.proxy.running import Service, listening
from tests.server import certificates
from tests.server.certificates import Credential
from tests.server.management_client import Management
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually
from tests.support.identities import issue, make_domain, make_service

from intaglio.authority.organizations import create_organization
from intaglio.core.errors import Forbidden, Unavailable
from intaglio.mtls.access.ingress_values import IngressChanges, NewIngress
from intaglio.mtls.access.ingresses import create_ingress, edit_ingress, rotate_token
from intaglio.mtls.access.modes import change_mode
from intaglio.mtls.access.policies import NewPolicy, activate, put_policy
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.revoking import suspend_identity
from intaglio.mtls.observation import models as observation
from intaglio.mtls.proxy.config import ByServer, make_config
from intaglio.mtls.proxy.decisions import Caller, Source
from intaglio.mtls.proxy.reverse_proxy import ReverseProxy
from intaglio.mtls.proxy.sources.platform import PlatformSource
from intaglio.mtls.proxy.sources.server import ServerSource
from intaglio.mtls.proxy.upstream import Upstream, address
from intaglio.mtls.proxy.wire import DecisionRequest
from intaglio.transport.contexts import ServerIdentity

_POLICY = "allow if team == finance\nallow GET /public/*"


@dataclass
class World:
    """A platform with an ingress, and a gateway that decides by it."""

    management: Management
    mtls: Mtls
    proxy: ReverseProxy
    service: Service
    authority: Credential
    token: str

    @property
    def url(self) -> str:
        return f"https://localhost:{self.proxy.addresses[0][1]}"

    def client(self, credential: Credential | None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        if credential is not None:
            credential.load_into(context)
        return httpx.AsyncClient(verify=context, base_url=self.url, trust_env=False)

    async def get(self, credential: Credential | None, path: str = "/") -> httpx.Response:
        async with self.client(credential) as http:
            return await http.get(path)

    async def credential(self, name: str, **changes: Any) -> Credential:
        """A registered service with a certificate."""
        identity = await make_service(self.mtls, name, **changes)
        key = ec.generate_private_key(ec.SECP256R1())
        issued = await issue(self.mtls, identity, key=key)
        return Credential(x509.load_der_x509_certificate(issued.certificate), key)

    async def events(self) -> list[Any]:
        await self.mtls.events.flush()
        async with self.mtls.database.read() as view:
            return list(await view.all(observation.access_event.select().order_by(observation.access_event.c.at)))


@pytest_asyncio.fixture(params=["platform", "server"])
async def world(request: pytest.FixtureRequest, management: Management, tmp_path: Path) -> AsyncIterator[World]:
    mtls = management.services.mtls
    await create_organization(mtls.authority, OPERATOR, "demo")
    await make_domain(mtls)
    await put_policy(mtls, OPERATOR, NewPolicy("payments", "demo", _POLICY))
    await activate(mtls, OPERATOR, "demo~payments")
    wanted = NewIngress("edge", "demo", "prod.example", type="gateway", mode="enforce", policy="payments")
    made = await create_ingress(mtls, OPERATOR, wanted)
    authority = certificates.authority("server authority")
    chain, key = certificates.server(authority).write(tmp_path, "gateway")
    service = Service()
    upstream = Upstream(address(f"http://127.0.0.1:{await service.start()}"))
    source = _source(request.param, management, mtls, made.token, chain, key)
    proxy = ReverseProxy([listening("127.0.0.1")], source, upstream)
    await proxy.start()
    yield World(management, mtls, proxy, service, authority, made.token)
    await proxy.stop(timeout=0.1)
    await service.stop()
    await mtls.close()


def _source(kind: str, management: Management, mtls: Mtls, token: str, chain: Path, key: Path) -> Source:
    if kind == "platform":

        own = ServerIdentity(chain.read_bytes(), key.read_bytes())

        async def identity() -> ServerIdentity:
            return own

        return PlatformSource(mtls, "demo~edge", identity, refuse_in_handshake=False)
    return _server_source(management, token, chain, key)


def _server_source(management: Management, token: str, chain: Path, key: Path) -> ServerSource:
    (chain.parent / "token").write_text(token)
    decisions = {
        "server": "https://management", "ingress": "demo~edge", "token": "token", "refuse_in_handshake": False,
    }  # fmt: skip
    behind = {"url": "http://127.0.0.1:1"}
    found = {"listen": ["127.0.0.1:0"], "certificate": chain.name, "key": key.name, "upstream": behind}
    config = make_config({**found, "decisions": decisions}, folder=chain.parent)
    assert isinstance(config.decisions, ByServer)

    def client() -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=management, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=transport, base_url="http://management", headers=headers)

    return ServerSource(config, config.decisions, client=client)


async def test_registered_service_passes_and_is_named(world: World) -> None:
    credential = await world.credential("payments")
    answer = await world.get(credential, "/pay")
    assert answer.status_code == 200
    headers = dict(answer.json()["headers"])
    assert headers["client-cert"] == f":{b64encode(credential.der).decode()}:"
    assert headers["x-intaglio-identity"] == "spiffe://prod.example/env/prod/team/finance/svc/payments"
    assert (headers["x-intaglio-team"], headers["x-intaglio-roles"]) == ("finance", "reader")
    events = await world.events()
    assert [(each["decision"], each["path"], each["recorder"]) for each in events] == [("allow", "/pay", "gateway")]
    assert events[0]["identity"] == headers["x-intaglio-identity"]


async def test_policy_is_asked_for_every_request_of_a_connection(world: World) -> None:
    credential = await world.credential("reports", team="sales")
    async with world.client(credential) as http:
        seen = [(await http.get(path)).status_code for path in ("/public/a", "/pay", "/public/b")]
    assert seen == [200, 403, 200]
    assert (await world.get(credential)).json()["code"] == "policy_denied"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: None, "no_certificate"),
        (lambda: certificates.authority("self-made"), "self_signed"),
        (lambda: certificates.client(certificates.authority("foreign")), "unknown_ca"),
    ],
)
async def test_stranger_is_refused(world: World, make: Any, reason: str) -> None:
    answer = await world.get(make())
    assert (answer.status_code, answer.json()["code"]) == (401, reason)
    assert [each["reason"] for each in await world.events()] == [reason]


async def test_certificate_of_another_environment_is_refused(world: World) -> None:
    await make_domain(world.mtls, "dev.example", "dev")
    credential = await world.credential("payments", domain="dev.example")
    assert (await world.get(credential)).json()["code"] == "wrong_environment"


async def test_open_connection_ends_with_the_identity(world: World) -> None:
    stolen, kept = await world.credential("stolen"), await world.credential("kept")
    async with world.client(stolen) as victim, world.client(kept) as other:
        for http in (victim, other):
            assert (await http.get("/")).status_code == 200
        await suspend_identity(world.mtls, OPERATOR, "service:stolen@prod.example")
        await eventually(lambda: len(world.proxy.connections) == 1)
        assert (await other.get("/")).status_code == 200
        assert (await victim.get("/")).json()["code"] == "revoked"
    events = await world.events()
    assert "revoked" in [each["reason"] for each in events if each["kind"] == "handshake"]


async def test_change_of_the_ip_rule_counts_at_once(world: World) -> None:
    credential = await world.credential("payments")
    assert (await world.get(credential)).status_code == 200
    await edit_ingress(world.mtls, OPERATOR, "demo~edge", IngressChanges(ip_rule=["192.0.2.0/24"]))

    async def is_denied() -> bool:
        return (await world.get(credential)).status_code == 403

    await eventually(is_denied)
    assert (await world.get(credential)).json()["code"] == "ip_denied"


async def test_roll_back_to_permissive_counts_at_once(world: World) -> None:
    assert (await world.get(None)).status_code == 401
    await change_mode(world.mtls, OPERATOR, "demo~edge", "permissive")

    async def passes() -> bool:
        return (await world.get(None)).status_code == 200

    await eventually(passes)
    assert "x-intaglio-identity" not in dict((await world.get(None)).json()["headers"])


async def test_only_the_forms_of_the_ingress_are_forwarded(world: World) -> None:
    credential = await world.credential("payments")
    await edit_ingress(world.mtls, OPERATOR, "demo~edge", IngressChanges(forward=["client-cert"]))

    async def told() -> set[str]:
        return {name for name, _ in (await world.get(credential)).json()["headers"]}

    async def is_short() -> bool:
        return "x-forwarded-client-cert" not in await told()

    await eventually(is_short)
    assert "client-cert" in await told()


async def test_gateway_with_a_wrong_token_does_not_start(management: Management, tmp_path: Path) -> None:
    chain, key = certificates.server(certificates.authority("server authority")).write(tmp_path, "gateway")
    source = _server_source(management, "igi_" + "0" * 49, chain, key)

    async def nothing() -> None:
        return None

    with pytest.raises(Forbidden, match="token"):
        await source.start(nothing)
    await source.stop()


async def test_old_token_counts_no_more(world: World) -> None:
    await rotate_token(world.mtls, OPERATOR, "demo~edge")
    http = world.management.client(world.token)

    async def is_refused() -> bool:
        return (await http.get("http://management/mtls/v1/gateway/settings")).status_code == 401

    await eventually(is_refused)


async def test_silent_server_means_nobody_passes(tmp_path: Path) -> None:
    chain, key = certificates.server(certificates.authority("server authority")).write(tmp_path, "gateway")

    async def silence(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("nobody there")

    source = _server_source(silence, "igi_x", chain, key)  # type: ignore[arg-type]
    source._http = httpx.AsyncClient(base_url="http://127.0.0.1:1")
    verdict = await source.decide(Caller("127.0.0.1"), DecisionRequest(source_ip="127.0.0.1").asked)
    assert (verdict.passes, verdict.reason, verdict.status) == (False, "status_unavailable", 503)
    with pytest.raises(Unavailable):
        await source.settings()
    await source.stop()


@pytest.mark.parametrize(
    "body",
    [{}, {"source_ip": 1}, {"source_ip": "x" * 301}, {"source_ip": "::1", "presented": ["%%=="]},
     {"source_ip": "::1", "presented": ["AA=="] * 11}, {"source_ip": "::1", "more": 1}],
)  # fmt: skip
async def test_malformed_question_is_refused(world: World, body: Any) -> None:
    http = world.management.client(world.token)
    assert (await http.post("http://management/mtls/v1/gateway/decisions", json=body)).status_code == 400


async def test_what_is_not_a_certificate_is_nobody(world: World) -> None:
    http = world.management.client(world.token)
    body = {"source_ip": "not an address", "presented": ["AAAA"], "method": "GET", "path": "/\0"}
    answer = await http.post("http://management/mtls/v1/gateway/decisions", json=body)
    assert (answer.status_code, answer.json()["passes"]) == (200, False)
