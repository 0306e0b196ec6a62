"""The decision endpoint as nginx, HAProxy, Envoy, Traefik, Caddy and programs ask it."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from tests.mtls.access.conftest import House, der, self_made
from tests.support.authority import OPERATOR

from intaglio.mtls.access.endpoint import AccessApp
from intaglio.mtls.access.ingresses import rotate_token
from intaglio.mtls.access.tokens import new_token


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Asking:
    """Asks the application as the web server hands it a request."""

    house: House
    token: str = ""

    async def __call__(
        self,
        path: str,
        headers: list[tuple[str, str]] | dict[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
    ) -> Answer:
        given = list(headers.items() if isinstance(headers, dict) else headers or ())
        if self.token:
            given.append(("x-intaglio-token", self.token))
        scope: dict[str, Any] = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
            "client": ("127.0.0.1", 50000),
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await AccessApp(self.house.mtls)(scope, receive, send)
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], told, sent[1]["body"])


@pytest.fixture
async def ask(house: House) -> Asking:
    """Asks in the name of an ingress that enforces and has no IP rule."""
    await house.ingress()
    return Asking(house, house.tokens["web"])


def escaped(certificate: bytes) -> str:
    return quote(ssl.DER_cert_to_PEM_cert(certificate), safe="")


def b64(certificate: bytes) -> str:
    return base64.b64encode(certificate).decode()


def as_nginx(certificate: bytes | None, **changes: str) -> dict[str, str]:
    values = {
        "x-client-cert": escaped(certificate) if certificate else "",
        "x-client-verify": "SUCCESS" if certificate else "NONE",
        "x-real-ip": "10.0.0.1",
        "x-original-method": "GET",
        "x-original-uri": "/pay/1?secret=x",
        "x-original-host": "www.example",
        "x-tls-version": "TLSv1.3",
        "x-tls-cipher": "TLS_AES_256_GCM_SHA384",
    }
    return values | {name.replace("_", "-"): value for name, value in changes.items()}


async def test_nginx_is_told_who_calls(house: House, ask: Asking) -> None:
    answer = await ask("/access/v1/nginx", as_nginx(house.payments.certificate))
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers["x-intaglio-identity"] == house.payments.identity.uri
    assert answer.headers["x-intaglio-service"] == "payments"
    assert answer.headers["client-cert"] == f":{b64(house.payments.certificate)}:"
    assert f'Cert="{escaped(house.payments.certificate)}"' in answer.headers["x-forwarded-client-cert"]
    assert answer.headers["cache-control"] == "no-store"


async def test_nginx_is_told_why_somebody_is_refused(house: House, ask: Asking) -> None:
    missing = await ask("/access/v1/nginx", as_nginx(None))
    assert (missing.status, missing.headers["x-intaglio-reason"]) == (401, "no_certificate")
    forged = await ask("/access/v1/nginx", as_nginx(der(self_made()[0]), x_client_verify="FAILED:self signed"))
    assert (forged.status, forged.headers["x-intaglio-reason"]) == (401, "self_signed")
    assert forged.json["code"] == "self_signed"
    assert "x-intaglio-identity" not in forged.headers
    assert "client-cert" not in forged.headers
    revoked = as_nginx(house.payments.certificate, x_client_verify="FAILED:certificate revoked")
    assert (await ask("/access/v1/nginx", revoked)).headers["x-intaglio-reason"] == "revoked"


async def test_refusal_tells_a_stranger_nothing_of_our_cas(house: House, ask: Asking) -> None:
    forged = await ask("/access/v1/nginx", as_nginx(der(self_made(name="somebody")[0])))
    assert b"prod.example" not in forged.body
    assert b"demo" not in forged.body
    assert b"somebody" not in forged.body


async def test_haproxy_sends_der_and_openssls_number(house: House, ask: Asking) -> None:
    given = as_nginx(None, x_client_cert_der=b64(house.payments.certificate), x_client_verify="0")
    assert (await ask("/access/v1/haproxy", given)).status == 200
    expired = given | {"x-client-verify": "10"}
    assert (await ask("/access/v1/haproxy", expired)).headers["x-intaglio-reason"] == "expired"


async def test_envoy_asks_with_the_path_of_the_request(house: House, ask: Asking) -> None:
    element = f'By=spiffe://x;Hash=00;Cert="{escaped(house.payments.certificate)}";Subject="CN=\\"a\\"";URI=spiffe://y'
    headers = {"x-forwarded-client-cert": element, "x-forwarded-for": "1.2.3.4, 10.0.0.1", "host": "www.example"}
    answer = await ask("/access/v1/envoy/pay/1", headers, method="POST")
    assert answer.status == 200
    event = (await events(house))[-1]
    assert (event["method"], event["path"], event["source_ip"]) == ("POST", "/pay/1", "10.0.0.1")


async def test_envoy_that_appends_instead_of_setting_is_found_out(house: House, ask: Asking) -> None:
    element = f'Cert="{escaped(house.payments.certificate)}"'
    answer = await ask("/access/v1/envoy/", {"x-forwarded-client-cert": f"{element},{element}"})
    assert answer.status == 400
    assert answer.json["code"] == "header-invalid"


async def test_traefik_and_caddy_ask_in_their_ways(house: House, ask: Asking) -> None:
    common = {"x-forwarded-method": "GET", "x-forwarded-uri": "/a", "x-forwarded-for": "10.0.0.1"}
    bare = b64(house.payments.certificate)
    for given in (bare, quote(bare, safe=""), f"{bare},{b64(house.payments.chain[0])}"):
        assert (await ask("/access/v1/traefik", common | {"x-forwarded-tls-client-cert": given})).status == 200
    assert (await ask("/access/v1/caddy", common | {"x-client-cert-der": bare})).status == 200


async def test_headers_of_another_product_are_not_looked_at(house: House, ask: Asking) -> None:
    forged = as_nginx(None) | {
        "client-cert": f":{b64(house.payments.certificate)}:",
        "x-forwarded-client-cert": f'Cert="{escaped(house.payments.certificate)}"',
        "x-forwarded-tls-client-cert": b64(house.payments.certificate),
    }
    answer = await ask("/access/v1/nginx", forged)
    assert (answer.status, answer.headers["x-intaglio-reason"]) == (401, "no_certificate")


async def test_header_that_is_there_twice_is_refused(house: House, ask: Asking) -> None:
    for name in ("x-client-cert", "x-real-ip", "x-original-uri", "x-client-verify"):
        given = [*as_nginx(house.payments.certificate).items(), (name, "x")]
        answer = await ask("/access/v1/nginx", given)
        assert answer.status == 400, name
    twice = [*as_nginx(house.payments.certificate).items(), ("x-intaglio-token", ask.token)]
    assert (await ask("/access/v1/nginx", twice)).status == 400


async def test_only_the_token_of_an_ingress_opens_the_endpoint(house: House, ask: Asking) -> None:
    for token in ("", "x", new_token(), ask.token[:-1] + ("a" if ask.token[-1] != "a" else "b")):
        answer = await Asking(house, token)("/access/v1/nginx", as_nginx(house.payments.certificate))
        assert answer.status == 401
        assert answer.json["code"] == "ingress-token-invalid"
    bearer = await Asking(house)("/access/v1/ingress", {"authorization": f"Bearer {ask.token}"})
    assert bearer.status == 200
    await rotate_token(house.mtls, OPERATOR, "web")
    await house.settled()
    assert (await ask("/access/v1/ingress")).status == 401


async def test_permissive_ingress_is_told_to_let_in_and_that_it_should_not(house: House) -> None:
    await house.ingress("soft", mode="permissive")
    answer = await Asking(house, house.tokens["soft"])("/access/v1/nginx", as_nginx(der(self_made()[0])))
    assert answer.status == 200
    assert answer.headers["x-intaglio-reason"] == "self_signed"
    assert answer.headers["x-intaglio-mode"] == "permissive"
    assert "client-cert" not in answer.headers
    assert "x-intaglio-identity" not in answer.headers


async def test_only_wanted_headers_go_upstream(house: House) -> None:
    await house.ingress("plain", forward=["identity"])
    answer = await Asking(house, house.tokens["plain"])("/access/v1/nginx", as_nginx(house.payments.certificate))
    assert "x-intaglio-identity" in answer.headers
    assert "client-cert" not in answer.headers
    assert "x-forwarded-client-cert" not in answer.headers


async def test_program_asks_in_json(house: House, ask: Asking) -> None:
    question = {
        "certificate": ssl.DER_cert_to_PEM_cert(house.payments.certificate), "source_ip": "10.0.0.1",
        "method": "GET", "path": "/pay/1",
    }  # fmt: skip
    answer = await ask("/access/v1/decide", method="POST", body=json.dumps(question).encode())
    assert answer.json["allowed"]
    assert answer.json["identity"]["uri"] == house.payments.identity.uri
    assert answer.json["headers"]["x-intaglio-name"] == "payments"
    enveloped = await ask("/access/v1/decide", method="POST", body=json.dumps({"input": {}}).encode())
    assert enveloped.json["result"]["reason"] == "no_certificate"
    assert [check["name"] for check in enveloped.json["result"]["checks"]] == ["presented"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"x":1}', b'{"certificate":"x"}', b"[" * 10_000, b'{"method":"a b"}']
)
async def test_question_that_is_none_is_refused(ask: Asking, body: bytes) -> None:
    answer = await ask("/access/v1/decide", method="POST", body=body)
    assert answer.status == 400
    assert (await ask("/access/v1/decide", method="POST", body=b" " * 300_000)).status == 413


async def test_ingress_learns_whom_to_trust(house: House, ask: Asking) -> None:
    told = (await ask("/access/v1/ingress")).json
    assert told["mode"] == "enforce"
    assert told["domain"] == "prod.example"
    assert told["trusted"] == [ssl.DER_cert_to_PEM_cert(house.payments.chain[0])]


async def test_unknown_paths_are_not_found(ask: Asking) -> None:
    for path in ("/", "/access/v1/", "/access/v1/decide/x", "/access/v1/apache2", "/access/v1/ingress/1"):
        assert (await ask(path)).status == 404


async def test_request_without_a_method_or_path_is_not_let_past_a_policy(house: House) -> None:
    from intaglio.mtls.access.policies import NewPolicy, activate, put_policy

    await put_policy(house.mtls, OPERATOR, NewPolicy("reads", "demo", "allow GET if kind == service"))
    await activate(house.mtls, OPERATOR, "reads")
    await house.ingress("strict", policy="reads")
    asking = Asking(house, house.tokens["strict"])
    good = as_nginx(house.payments.certificate)
    assert (await asking("/access/v1/nginx", good)).status == 200
    for name in ("x-original-method", "x-original-uri"):
        left_out = {key: value for key, value in good.items() if key != name}
        answer = await asking("/access/v1/nginx", left_out)
        assert (answer.status, answer.headers["x-intaglio-reason"]) == (403, "policy_denied"), name


async def events(house: House) -> list[Any]:
    """The events recorded so far, oldest first."""
    from intaglio.db.listing import ListQuery
    from intaglio.mtls.observation.event_log import list_events

    while await house.mtls.events.flush():
        pass
    return list((await list_events(house.mtls, OPERATOR, ListQuery(sort="at"))).rows)


async def test_every_decision_is_recorded(house: House, ask: Asking) -> None:
    await ask("/access/v1/nginx", as_nginx(house.payments.certificate))
    await ask("/access/v1/nginx", as_nginx(None))
    good, bad = await events(house)
    assert (good["identity"], good["decision"], good["reason"]) == (house.payments.identity.uri, "allow", "")
    assert (good["method"], good["path"], good["host"]) == ("GET", "/pay/1", "www.example")
    assert (good["tls_version"], good["source_ip"], good["ingress"]) == ("TLSv1.3", "10.0.0.1", "demo~web")
    assert bytes(good["serial"]) == house.payments.serial
    assert "secret" not in str(dict(good))
    assert (bad["identity"], bad["decision"], bad["reason"]) == ("", "deny", "no_certificate")
