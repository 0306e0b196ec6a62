"""Identity tokens of CI systems: which count, for whom, for how long; and what happens when their issuer changes keys
or goes away."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from sqlalchemy import text
from tests.mtls.automation.conftest import Client, new_key, sign
from tests.mtls.enrolment.conftest import _server_certificate, set_live
from tests.support.authority import OPERATOR, tenant
from tests.support.identities import make_request, make_user
from tests.support.outgoing import LOOPBACK_GUARD, list_networks

from intaglio.core import clock
from intaglio.core.errors import (
    Forbidden,
    IntaglioError,
    InvalidInput,
    NotFound,
    Refused,
    StateConflict,
    Unauthenticated,
)
from intaglio.core.identifiers import new_secret
from intaglio.core.outgoing import Guard
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.automation import conditions, identity_tokens, issuer_keys, logins, pipelines
from intaglio.mtls.automation.issuer_keys import Issuer, IssuerKeys
from intaglio.mtls.automation.pipelines import Pipeline, PipelineWish, add_pipeline
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import issuing, revoking
from intaglio.mtls.identities.registry import NewIdentity, add_identity
from intaglio.mtls.identities.values import Identity, TrustDomain

AUDIENCE = "https://pki.example"
SUBJECT = "repo:acme/shop:ref:refs/heads/main"


@dataclass
class TestIssuer:
    """A token issuer on the loopback, with discovery document and key set, under a certificate of its own CA."""

    __test__ = False
    url: str = ""
    ca: str = ""
    keys: list[Any] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    away: bool = False
    asked: list[str] = field(default_factory=list)

    def token(self, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token as a job of ``acme/shop`` gets it."""
        key = key or self.keys[0]
        now = int(clock.now().timestamp())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 600, "ref_protected": "true"}
        said["jti"] = new_secret()
        head = {"alg": key.alg or "ES256", "kid": key.kid} | (header or {})
        values = {name: value for name, value in (said | claims).items() if value is not None}
        return jwt.encode({k: v for k, v in head.items() if v is not None}, values, key, algorithms=[head["alg"]])

    def served(self, path: str) -> Any:
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        return {"keys": [key.as_dict(private=False) for key in self.keys]} if path == "/keys" else None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ")[1].decode()
            self.asked.append(path)
            found = None if self.away else self.served(path)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            status = b"503 Away" if self.away else b"200 OK" if found is not None else b"404 Nothing"
            coding = b"content-encoding: gzip\r\n" if body[:2] == b"\x1f\x8b" else b""
            head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n" % (status, len(body), coding)
            writer.write(head + body)
            await writer.drain()
        writer.close()


def ec_key(key_id: str, curve: str = "P-256", alg: str = "ES256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": key_id, "alg": alg, "use": "sig"})


@pytest_asyncio.fixture
async def issuer(mtls: Mtls, tmp_path: Path) -> AsyncIterator[TestIssuer]:
    await list_networks(mtls.database)
    made = TestIssuer(keys=[ec_key("one")])
    certificate, key = _server_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0, ssl=context)
    made.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    made.ca = certificate.read_text()
    yield made
    server.close()
    await server.wait_closed()


@pytest_asyncio.fixture
async def deploy(mtls: Mtls, trust_domain: TrustDomain) -> Identity:
    """The pipeline identity ``shop-deploy``."""
    return await add_identity(mtls, OPERATOR, NewIdentity("prod.example", "pipeline", "shop-deploy", team="shop"))


def wish(issuer: TestIssuer, /, **changes: Any) -> PipelineWish:
    values: dict[str, Any] = {
        "identity": "pipeline:shop-deploy",
        "issuer": issuer.url,
        "audience": AUDIENCE,
        "conditions": {"sub": ["repo:acme/shop:ref:*"], "ref_protected": ["true"]},
        "lifetime": timedelta(minutes=30),
        "issuer_ca": issuer.ca,
    }
    return PipelineWish(**(values | changes))


@pytest_asyncio.fixture
async def bound(mtls: Mtls, deploy: Identity, issuer: TestIssuer) -> Pipeline:
    """Tokens of ``acme/shop`` on any ref prove ``shop-deploy``."""
    return await add_pipeline(mtls, OPERATOR, "shop", wish(issuer))


def _malleable(token: str) -> str:
    """The same token under the other signature that an ECDSA key makes of one: (r, n - s) counts like (r, s)."""
    head, _, signature = token.rpartition(".")
    octets = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = octets[:32] + (order - int.from_bytes(octets[32:], "big")).to_bytes(32, "big")
    return f"{head}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"


async def ask(client: Client, token: str, pipeline: str = "shop", **body: Any) -> httpx.Response:
    return await sign(client(), token, pipeline=pipeline, **body)


async def code(client: Client, token: str) -> str:
    answer = await ask(client, token)
    return str(answer.json().get("code", answer.status_code))


async def test_a_job_gets_a_certificate_no_longer_than_it_may_take(
    client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    answer = await ask(client, issuer.token())
    assert answer.status_code == 200, answer.text
    certificate = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life <= timedelta(minutes=36)
    assert answer.json()["identity"].endswith("/pipeline/shop-deploy")
    longer = await ask(client, issuer.token(), lifetime="PT2H")
    assert longer.json()["code"] == "lifetime-above-ceiling"
    assert (await sign(client(), issuer.token())).json()["code"] == "pipeline-missing"


async def test_a_certificate_can_be_made_to_end_with_the_token(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    await pipelines.change_pipeline(mtls, OPERATOR, "shop", wish(issuer, end_with_token=True))
    answer = await ask(client, issuer.token())
    certificate = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    assert certificate.not_valid_after_utc <= clock.now() + timedelta(seconds=601)
    soon = int(clock.now().timestamp()) + 100
    assert (await ask(client, issuer.token(exp=soon))).json()["code"] == "ground-ends-soon"


async def test_the_vault_interface_takes_identity_tokens_too(
    client: Client, bound: Pipeline, issuer: TestIssuer, mtls: Mtls
) -> None:
    for path in ("jwt", "kubernetes"):
        login = {"role": "shop", "jwt": issuer.token()}
        answer = await client().post(f"/v1/auth/{path}/login", json=login)
        assert answer.status_code == 200, answer.text
        headers = {"x-vault-token": answer.json()["auth"]["client_token"]}
        body = {"csr": make_request().decode(), "ttl": "8h"}
        signed = await client().put("/v1/pki/sign/shop-deploy", json=body, headers=headers)
        assert signed.status_code == 200, signed.text
        assert "PT" in signed.json()["warnings"][0]
    await pipelines.remove_pipeline(mtls, OPERATOR, "shop")
    assert (await client().put("/v1/pki/sign/shop-deploy", json=body, headers=headers)).status_code == 403


async def test_a_login_ends_when_its_pipeline_says_something_else(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    answer = await client().post("/v1/auth/jwt/login", json={"role": "shop", "jwt": issuer.token()})
    headers = {"x-vault-token": answer.json()["auth"]["client_token"]}
    assert (await client().get("/v1/auth/token/lookup-self", headers=headers)).status_code == 200
    narrower = wish(issuer, conditions={"sub": ["repo:acme/shop:ref:refs/heads/release"]})
    await pipelines.change_pipeline(mtls, OPERATOR, "shop", narrower)
    assert (await client().get("/v1/auth/token/lookup-self", headers=headers)).status_code == 403


async def test_a_token_counts_once_but_the_same_request_may_come_again(
    client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    token, key = issuer.token(), new_key()
    for _ in range(2):  # whose answer was lost asks again
        assert (await ask(client, token, key=key)).status_code == 200
    taken = await ask(client, token)
    assert (taken.status_code, taken.json()["code"]) == (403, "identity-token-used")
    login = await client().post("/v1/auth/jwt/login", json={"role": "shop", "jwt": token})
    assert login.status_code == 403
    assert "identity-token-used" in login.text
    header, claims, signature = issuer.token().split(".")
    assert (await ask(client, f"{header}.{claims}.{signature}")).status_code == 200
    assert (await ask(client, _malleable(f"{header}.{claims}.{signature}"))).json()["code"] == "identity-token-used"


async def test_a_token_counts_once_however_many_ask_at_once(
    client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    token = issuer.token()
    logins = [client().post("/v1/auth/jwt/login", json={"role": "shop", "jwt": token}) for _ in range(4)]
    statuses = sorted(each.status_code for each in await asyncio.gather(*logins))
    assert statuses == [200, 403, 403, 403]


@pytest.mark.parametrize(("uses", "codes"), [(2, ["200", "200", "identity-token-used"]), (0, ["200"] * 3)])
async def test_a_pipeline_may_take_a_token_several_times(
    mtls: Mtls, client: Client, deploy: Identity, issuer: TestIssuer, uses: int, codes: list[str]
) -> None:
    await add_pipeline(mtls, OPERATOR, "shop", wish(issuer, token_uses=uses))
    token = issuer.token()
    assert [await code(client, token) for _ in codes] == codes
    with pytest.raises(InvalidInput) as refusal:
        await add_pipeline(mtls, OPERATOR, "other", wish(issuer, token_uses=-1))
    assert refusal.value.code == "token-uses-invalid"


async def test_uses_of_tokens_are_forgotten_with_them(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    assert await code(client, issuer.token()) == "200"
    counted = text("SELECT count(*) FROM mtls_pipeline_use")
    for ended, left in (("", 1), ("UPDATE mtls_pipeline_use SET expires_at = now() - interval '1 hour'", 0)):
        async with mtls.database.transaction() as tx:
            if ended:
                await tx.execute(text(ended))
        await logins.prune(mtls.database)
        async with mtls.database.read() as view:
            assert await view.scalar(counted) == left


@pytest.mark.parametrize("change", ["narrow", "remove"])
async def test_a_change_between_proof_and_login_is_found_also_in_the_same_second(
    mtls: Mtls, bound: Pipeline, issuer: TestIssuer, change: str
) -> None:
    """What a token proved counts by what the pipeline said then; whoever changes it comes before or after the login,
    never in between."""
    job = await pipelines.job_of(mtls, IssuerKeys(), "shop", issuer.token(), used_for=b"x")
    with clock.frozen(clock.now()):
        if change == "narrow":
            narrower = wish(issuer, conditions={"sub": ["repo:acme/shop:ref:refs/heads/release"]})
            await pipelines.change_pipeline(mtls, OPERATOR, "shop", narrower)
        else:
            await pipelines.remove_pipeline(mtls, OPERATOR, "shop")
        ground = logins.Ground(pipeline_id=job.pipeline.id, pipeline_version=job.pipeline.version)
        with pytest.raises(Forbidden) as refusal:
            await logins.open_login(mtls, job.identity, "jwt", ground, "192.0.2.9")
    assert refusal.value.code == "pipeline-refused"


async def test_a_change_while_a_certificate_is_made_revokes_it_instead(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = issuing.enroll

    async def enroll(*args: Any, **values: Any) -> Any:
        found = await issue(*args, **values)
        await pipelines.change_pipeline(mtls, OPERATOR, "shop", wish(issuer, lifetime=timedelta(minutes=10)))
        return found

    monkeypatch.setattr(issuing, "enroll", enroll)
    assert await code(client, issuer.token()) == "pipeline-refused"
    async with mtls.database.read() as view:
        status = text("SELECT status FROM certificate JOIN mtls_binding ON mtls_binding.id = certificate.id")
        assert await view.scalar(status) == "revoked"


async def test_a_login_that_ends_while_a_certificate_is_made_gets_none(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await client().post("/v1/auth/jwt/login", json={"role": "shop", "jwt": issuer.token()})
    headers = {"x-vault-token": opened.json()["auth"]["client_token"]}
    issue = issuing.enroll

    async def enroll(*args: Any, **values: Any) -> Any:
        found = await issue(*args, **values)
        assert (await client().put("/v1/auth/token/revoke-self", headers=headers)).status_code == 204
        return found

    monkeypatch.setattr(issuing, "enroll", enroll)
    answer = await client().put("/v1/pki/issue/shop-deploy", json={}, headers=headers)
    assert answer.status_code == 403
    assert "private_key" not in answer.text


async def test_tokens_of_others_are_refused(client: Client, bound: Pipeline, issuer: TestIssuer) -> None:
    for claims in (
        {"sub": "repo:acme/shopping:ref:refs/heads/main"},
        {"sub": "repo:acme/shop:pull_request"},
        {"sub": None},
        {"sub": ["repo:acme/other:ref:x"]},
        {"sub": {"repo:acme/shop:ref:": 1}},
        {"ref_protected": "false"},
        {"ref_protected": None},
        {"iss": "https://token.elsewhere.example"},
    ):
        assert await code(client, issuer.token(**claims)) == "pipeline-refused", claims
    assert (await ask(client, issuer.token(), pipeline="unknown")).json()["code"] == "pipeline-refused"


async def test_tokens_for_others_and_of_other_times_are_refused(
    client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    now = int(clock.now().timestamp())
    for claims in (
        {"aud": "https://elsewhere.example"},
        {"aud": None},
        {"aud": []},
        {"exp": now - 61},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 1e300},
        {"iat": now + 120, "exp": now + 300},
        {"iat": None},
        {"nbf": now + 120},
        {"exp": now + 25 * 3600},
    ):
        assert await code(client, issuer.token(**claims)) == "identity-token-invalid", claims
    assert await code(client, issuer.token(aud=[AUDIENCE, "other"])) == "200"


async def test_algorithms_cannot_be_confused(client: Client, bound: Pipeline, issuer: TestIssuer) -> None:
    head, body, signature = issuer.token().split(".")
    public = issuer.keys[0].as_pem(private=False)
    shared = _base64(b'{"alg":"HS256","kid":"one"}') + "." + body
    forged = shared + "." + _base64(hmac.digest(public, shared.encode(), "sha256"))
    assert await code(client, forged) == "identity-token-invalid"
    none = _base64(b'{"alg":"none","kid":"one"}')
    for wrong in (f"{none}.{body}.", f"{none}.{body}.{signature}", f"{head}.{body}.", f"{head}.{body}.AAAA"):
        assert await code(client, wrong) == "identity-token-invalid"
    own = ec_key("one")
    assert await code(client, issuer.token(own)) == "identity-token-invalid"
    embedded = {"jwk": own.as_dict(private=False)}
    assert await code(client, issuer.token(own, embedded)) == "identity-token-invalid"
    assert await code(client, issuer.token(own, {"jku": "https://evil.example/keys"})) == "identity-token-invalid"
    assert await code(client, issuer.token(ec_key("one", "P-384", "ES384"))) == "identity-token-invalid"


async def test_a_critical_header_that_is_not_understood_is_refused(
    client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    header = _base64(b'{"alg":"ES256","kid":"one","crit":["x"],"x":1}')
    signed = header + "." + issuer.token().split(".")[1]
    r, s = decode_dss_signature(issuer.keys[0].private_key.sign(signed.encode(), ECDSA(SHA256())))
    token = signed + "." + _base64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    assert await code(client, token) == "identity-token-invalid"


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES384", "EdDSA"])
async def test_the_usual_algorithms_count(client: Client, bound: Pipeline, issuer: TestIssuer, alg: str) -> None:
    parameters: Any = {"kid": "other", "alg": alg}
    key: Any = (
        RSAKey.generate_key(2048, parameters) if alg[1:] == "S256"
        else ECKey.generate_key("P-384", parameters) if alg == "ES384"
        else OKPKey.generate_key("Ed25519", parameters)
    )  # fmt: skip
    issuer.keys = [key, OctKey.generate_key(256, {"kid": "secret"})]
    assert await code(client, issuer.token(key)) == "200"


async def test_a_weak_key_of_an_issuer_does_not_count(issuer: TestIssuer) -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak", "alg": "RS256"})
    issuer.keys = [ec_key("one"), weak, ECKey.generate_key("P-256", {"kid": "enc", "use": "enc"})]
    found = await issuer_keys.fetch_keys(Issuer(issuer.url, ca=issuer.ca), LOOPBACK_GUARD)
    assert [key.kid for key in found] == ["one"]


async def test_new_keys_of_an_issuer_are_noticed_without_a_flood(
    client: Client, bound: Pipeline, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1000.0
    monkeypatch.setattr(issuer_keys, "monotonic", lambda: at)
    assert await code(client, issuer.token()) == "200"
    looks = issuer.asked.count("/keys")
    for number in range(20):
        assert await code(client, issuer.token(ec_key(f"invented-{number}"))) == "identity-token-invalid"
    assert issuer.asked.count("/keys") == looks
    issuer.keys = [ec_key("two")]
    at += 31
    assert await code(client, issuer.token()) == "200"
    assert issuer.asked.count("/keys") == looks + 1


async def test_known_keys_count_while_the_issuer_is_away(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1000.0
    monkeypatch.setattr(issuer_keys, "monotonic", lambda: at)
    assert await code(client, issuer.token()) == "200"
    issuer.away = True
    at += 11 * 60
    assert await code(client, issuer.token()) == "200"
    at += 60 * 60
    answer = await ask(client, issuer.token())
    assert (answer.status_code, answer.json()["code"]) == (503, "issuer-unreachable")
    assert answer.headers["retry-after"] == "30"
    issuer.away = False
    at += 31
    assert await code(client, issuer.token()) == "200"


@pytest.mark.parametrize(
    "answers",
    [
        {"/keys": b"x" * 300_000},
        {"/keys": b"not json"},
        {"/keys": gzip.compress(b"[" + b"1," * 30_000_000 + b"1]")},  # 60 MB in 60 KB
        {"/keys": b"[" * 50_000},
        {"/keys": {"keys": "none"}},
        {"/keys": {"keys": [{"kty": "oct", "k": "AAAA"}, 7, {"kty": "EC"}]}},
        {"/.well-known/openid-configuration": {"issuer": "https://elsewhere.example", "jwks_uri": "https://x.example"}},
        {"/.well-known/openid-configuration": {"jwks_uri": "https://x.example"}},
    ],
)
async def test_an_issuer_that_answers_nonsense_is_no_issuer(
    client: Client, bound: Pipeline, issuer: TestIssuer, answers: dict[str, Any]
) -> None:
    issuer.answers = answers
    assert await code(client, issuer.token()) == "issuer-unreachable"


async def test_an_issuer_has_to_prove_who_it_is(
    mtls: Mtls, client: Client, deploy: Identity, issuer: TestIssuer
) -> None:
    await add_pipeline(mtls, OPERATOR, "shop", wish(issuer, issuer_ca=""))
    assert await code(client, issuer.token()) == "issuer-unreachable"
    plain = issuer.url.replace("https://", "http://")
    issuer.answers = {"/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{plain}/keys"}}
    await pipelines.change_pipeline(mtls, OPERATOR, "shop", wish(issuer))
    assert await code(client, issuer.token()) == "issuer-unreachable"
    assert "/keys" not in issuer.asked


async def test_a_suspended_identity_has_no_pipeline(
    mtls: Mtls, client: Client, bound: Pipeline, deploy: Identity, issuer: TestIssuer
) -> None:
    await revoking.suspend_identity(mtls, OPERATOR, deploy.id)
    assert await code(client, issuer.token()) == "identity-suspended"


async def test_what_was_accepted_is_on_record(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    token = issuer.token()
    await ask(client, token)
    found = await pipelines.get_pipeline(mtls, OPERATOR, "shop")
    assert found.uses == 1
    async with mtls.database.read() as view:
        accepted = "SELECT row_to_json(t)::text AS t FROM audit_record t WHERE action = 'pipeline.accept'"
        trail = await view.all(text(accepted))
    assert SUBJECT in trail[0]["t"]
    assert token.rpartition(".")[2] not in trail[0]["t"]


@pytest.mark.parametrize(
    "changes",
    [
        {"conditions": {}},
        {"conditions": {"iss": ["https://x.example"]}},
        {"conditions": {"sub": []}},
        {"conditions": {"sub": ["*"]}},
        {"conditions": {"sub": ["repo:acme*"]}},
        {"conditions": {"sub": ["repo:*/shop"]}},
        {"conditions": {"sub": [""]}},
        {"conditions": {"s ub": ["x"]}},
        {"issuer": "http://issuer.example"},
        {"issuer": "https://user@issuer.example"},
        {"issuer": "https://issuer.example:99999"},
        {"jwks_url": "file:///etc/passwd"},
        {"audience": ""},
        {"issuer_ca": "not pem"},
        {"lifetime": timedelta(minutes=1)},
    ],
)
async def test_a_pipeline_that_says_too_little_is_refused(
    mtls: Mtls, deploy: Identity, issuer: TestIssuer, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        await add_pipeline(mtls, OPERATOR, "shop", wish(issuer, **changes))


async def test_who_may_bind_what(mtls: Mtls, bound: Pipeline, issuer: TestIssuer) -> None:
    with pytest.raises(StateConflict):
        await add_pipeline(mtls, OPERATOR, "shop", wish(issuer))
    with pytest.raises(NotFound):
        await add_pipeline(mtls, tenant("mallory"), "other", wish(issuer))
    with pytest.raises(NotFound):
        await pipelines.remove_pipeline(mtls, tenant("mallory"), "shop")
    with pytest.raises(IntaglioError):
        await add_pipeline(mtls, Principal("user", "eve", frozenset({Permission.MTLS_VIEW})), "other", wish(issuer))
    user = await make_user(mtls)
    with pytest.raises(Refused):
        await add_pipeline(mtls, OPERATOR, "other", wish(issuer, identity=user.id))
    with pytest.raises(Refused) as refused:
        await add_pipeline(mtls, OPERATOR, "other", wish(issuer, lifetime=timedelta(days=30)))
    assert refused.value.code == "lifetime-above-ceiling"
    page = await pipelines.list_pipelines(mtls, OPERATOR, ListQuery(total=True))
    assert [(each.name, page.total) for each in page.pipelines] == [("shop", 1)]
    assert (await pipelines.list_pipelines(mtls, tenant("mallory"), ListQuery())).pipelines == []


async def test_failed_identity_tokens_are_limited(
    mtls: Mtls, client: Client, bound: Pipeline, issuer: TestIssuer
) -> None:
    await set_live(mtls, "automation", failures_per_minute=2)
    wrong = issuer.token(aud="https://elsewhere.example")
    assert [(await ask(client, wrong)).status_code for _ in range(3)] == [401, 401, 429]


@given(st.text(max_size=300) | st.lists(st.text(max_size=40), min_size=3, max_size=3).map(".".join))
def test_what_is_no_token_is_told_so(token: str) -> None:
    with pytest.raises(Unauthenticated):
        asyncio.run(
            identity_tokens.verify(
                token, Issuer("https://x.example"), "x", IssuerKeys(), Guard(), fresh_for=1, outage=0
            )
        )


_CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "ref", "x"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists, max_leaves=4),
)


@given(_CLAIMS, st.text(min_size=1, max_size=9).filter(lambda value: "*" not in value))
def test_conditions_hold_for_what_they_say_only(claims: dict[str, Any], value: str) -> None:
    expected = claims.get("sub") == value or (isinstance(claims.get("sub"), list) and value in claims["sub"])
    digits = value in ("true", "false") or value.lstrip("-").isdigit()
    assert conditions.hold({"sub": [value]}, claims) == expected or digits
    assert not conditions.hold({"sub": [value], "absent": ["x"]}, claims)
