"""The decision endpoint: enforcement points made by others ask here, with the token of their ingress.

Written against ASGI directly: with some ingresses every request of every client costs one question here.

    any method  /access/v1/{nginx,haproxy,apache,envoy,traefik,caddy}[/...]   200 or 401/403, in the product's own way
    POST        /access/v1/decide                                            question and decision as JSON
    GET         /access/v1/ingress                                           the settings of the ingress that asks
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, TooLarge, Unauthenticated
from intaglio.core.logging import get_logger
from intaglio.core.principal import Principal
from intaglio.mtls.access import presented as read
from intaglio.mtls.access.adapters import ADAPTERS, UNTOLD, Headers, Question, verify_error
from intaglio.mtls.access.answers import Header, refusal, response_headers
from intaglio.mtls.access.configuration import IngressView
from intaglio.mtls.access.observed import event_of
from intaglio.mtls.access.tokens import token_hash
from intaglio.mtls.access.values import Decision, Facts
from intaglio.mtls.context import Mtls
from intaglio.x509.certificates import read_certificates

log = get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX = "/access/v1/"
LARGEST_QUESTION = 256 * 1024
_TOKEN_HEADER = b"x-intaglio-token"


class AccessApp:
    """ASGI application of one process. Whoever composes it closes the ``Mtls`` it was made with."""

    def __init__(self, mtls: Mtls) -> None:
        self._mtls = mtls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope["headers"])
        try:
            status, answered, body = await self._answer(scope, headers, receive)
        except IntaglioError as error:
            self._note_refusal(scope, error)
            status, answered, body = _problem(error)
        except Exception:
            # Not 500: an ingress that fails open takes that for silence, and a question made to trip us for a yes.
            log.exception("a question could not be decided")
            status, answered, body = _problem(_undecided())
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(
        self, scope: Scope, headers: Headers, receive: Receive
    ) -> tuple[int, list[Header], bytes]:
        path: str = scope["path"]
        if not path.startswith(PREFIX):
            raise NotFound("There is nothing at this path.", remedy=f"Ask below {PREFIX}.")
        name, slash, _ = path[len(PREFIX) :].partition("/")
        scope["intaglio.route"] = _ROUTES.get(name, PREFIX)
        ingress = await self._ingress(headers)
        scope["intaglio.caller"] = ingress.id.name
        if (adapter := ADAPTERS.get(name)) is not None:
            question = Question(headers, scope["method"], _raw_rest(scope, name) if slash else "")
            facts = adapter(question, ingress.id.id, clock.now())
            decision = await self._decide(ingress, facts)
            if decision.allowed:
                return 200, response_headers(decision, ingress.forward), b""
            return refusal(decision)
        if name == "decide" and not slash and scope["method"] == "POST":
            return await self._decide_json(ingress, await _body(receive))
        if name == "ingress" and not slash and scope["method"] in ("GET", "HEAD"):
            return _json(_settings(ingress))
        raise NotFound(f'There is nothing at "{PREFIX}{name[:40]}" for {scope["method"]}.')

    async def _ingress(self, headers: Headers) -> IngressView:
        """Whose token it is. Raises Unauthenticated."""
        given = headers.get(_TOKEN_HEADER)
        if not given:
            bearer = headers.get(b"authorization")
            given = bearer[7:] if bearer[:7].lower() == b"bearer " else b""
        hashed = token_hash(given.decode("latin-1").strip()) if given else None
        configuration = await self._mtls.decider.configuration()
        found = configuration.by_token.get(hashed) if hashed else None
        if found is None:
            raise Unauthenticated(
                "This needs the token of an ingress.",
                code="ingress-token-invalid",
                remedy="Send it as X-Intaglio-Token; `intaglio mtls ingress token NAME` makes a new one.",
            )
        return found

    async def _decide(self, ingress: IngressView, facts: Facts, *, handshake: bool = False) -> Decision:
        decision = await self._mtls.decider.decide_at(ingress, facts)
        self._mtls.events.record(event_of(facts, decision, kind="handshake" if handshake else "request"))
        return decision

    async def _decide_json(self, ingress: IngressView, body: bytes) -> tuple[int, list[Header], bytes]:
        wrapped, asked = _parsed(body)
        facts = asked.facts(ingress)
        decision = await self._decide(ingress, facts, handshake=asked.kind == "handshake")
        told = decision_json(decision, ingress)
        # A question in the envelope of the Open Policy Agent's data API is answered in it.
        return _json({"result": told} if wrapped else told)

    def _note_refusal(self, scope: Scope, error: IntaglioError) -> None:
        refusals = self._mtls.refusals
        if refusals is not None and error.status < 500:
            caller = Principal("client", scope.get("intaglio.caller", "an ingress"), source=_peer(scope))
            refusals.record(caller, "access.decide", "ingress", scope.get("intaglio.route", "/"), error)


def _undecided() -> Forbidden:
    return Forbidden(
        "The question could not be decided, for a fault of this server.",
        code="decision-failed",
        remedy="Look into its log, and report it.",
    )


_ROUTES = {name: PREFIX + name for name in (*ADAPTERS, "decide", "ingress")}


class DecisionRequest(BaseModel):
    """A question in JSON. Certificates are PEM or base64 of DER; ``certificate`` is the leaf."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(default="request", pattern="^(request|handshake)$")
    certificate: str = Field(default="", max_length=100_000)
    chain: list[str] = Field(default=[], max_length=9)
    source_ip: str = Field(default="", max_length=100)
    method: str = Field(default="", max_length=100)
    host: str = Field(default="", max_length=300)
    path: str = Field(default="", max_length=8192)
    tls_version: str = Field(default="", max_length=100)
    cipher: str = Field(default="", max_length=100)
    verify: str = Field(default="", max_length=300)

    def facts(self, ingress: IngressView) -> Facts:
        """The facts of the question. Raises InvalidInput."""
        given = [text for text in (self.certificate, *self.chain) if text.strip()]
        presented = tuple(each.der for text in given for each in read_certificates(text))
        handshake = self.kind == "handshake"
        return Facts(
            ingress=ingress.id.id,
            source_ip=read.text(self.source_ip.encode(), "source address"),
            at=clock.now(),
            presented=presented[: read.MOST_CERTIFICATES + 1],
            host=read.text(self.host.encode(), "host"),
            method="" if handshake else read.name(self.method.encode(), "method") or UNTOLD,
            path=read.text(self.path.encode("utf-8", "replace"), "path").partition("?")[0],
            tls_version=read.name(self.tls_version.encode(), "TLS version"),
            cipher=read.name(self.cipher.encode(), "cipher"),
            verify_error=verify_error(self.verify, presented=bool(presented)),
        )


def decision_json(decision: Decision, ingress: IngressView) -> dict[str, Any]:
    """A decision as JSON, with everything an operator may know."""
    identity, certificate, policy = decision.identity, decision.certificate, decision.policy
    headers = response_headers(decision, ingress.forward) if decision.allowed else []
    return {
        "allowed": decision.allowed,
        "enforced": decision.enforced,
        "mode": decision.mode,
        "status": decision.status,
        "reason": decision.reason,
        "detail": decision.detail,
        "ip_allowed": decision.ip_allowed,
        "certificate_reason": decision.certificate_reason,
        "identity": None
        if identity is None
        else {
            "kind": identity.kind,
            "name": identity.name,
            "domain": identity.domain,
            "environment": identity.environment,
            "team": identity.team,
            "service": identity.service,
            "roles": list(identity.roles),
            "version": identity.version,
            "uri": identity.uri,
            "email": identity.email,
        },
        "certificate": None
        if certificate is None
        else {
            "serial": certificate.serial.hex().upper(),
            "fingerprint": certificate.fingerprint.hex(),
            "issuer": certificate.issuer,
            "subject": certificate.subject,
            "san": list(certificate.san),
            "not_before": clock.rfc3339(certificate.not_before),
            "not_after": clock.rfc3339(certificate.not_after),
            "ca": certificate.ca,
        },
        "policy": None
        if policy is None
        else {"policy": policy.policy, "version": policy.version, "allowed": policy.allowed, "rules": policy.rules},
        "checks": [
            {"name": check.name, "passed": check.reason is None, "reason": check.reason, "detail": check.detail}
            for check in decision.checks
        ],
        "headers": {
            name.decode(): value.decode()
            for name, value in headers
            if name not in (b"content-length", b"cache-control")
        },
    }


def _settings(ingress: IngressView) -> dict[str, Any]:
    """What an enforcement point needs to know of itself: mode, and whose certificates to accept in the handshake."""
    rule = ingress.ip_rule
    return {
        "ingress": ingress.id.name,
        "type": ingress.type,
        "domain": ingress.domain,
        "environment": ingress.environment,
        "mode": ingress.mode,
        "ip_rule": None if rule is None else [str(network) for network in rule.networks],
        "policy": ingress.policy.name if ingress.policy else None,
        "fail_mode": "open" if ingress.fail_open else "closed",
        "forward": sorted(ingress.forward),
        "hosts": list(ingress.hosts),
        "revocation_source": ingress.revocation_source,
        "refresh_seconds": ingress.refresh_seconds,
        "trust_version": ingress.trust.version.hex(),
        "trusted": [anchor.pem for anchor in ingress.trust.anchors],
    }


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _raw_rest(scope: Scope, name: str) -> str:
    """The path behind the adapter's own as it was sent: the server has decoded ``scope["path"]`` already."""
    raw: bytes = scope.get("raw_path") or b""
    start = f"{PREFIX}{name}/".encode()
    if not raw.startswith(start):
        raise read.invalid("its own part of the path in an unusual spelling")
    return read.text(raw[len(start) - 1 :], "path")


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("The question ended early.")
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > LARGEST_QUESTION:
            raise TooLarge(f"A question has at most {LARGEST_QUESTION} octets.")
        if not message.get("more_body", False):
            return body


def _parsed(body: bytes) -> tuple[bool, DecisionRequest]:
    try:
        value = json.loads(body)
        wrapped = isinstance(value, dict) and set(value) == {"input"}
        return wrapped, DecisionRequest.model_validate(value["input"] if wrapped else value)
    except ValidationError as error:
        wrong = [("/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_input=False)]
        raise InvalidInput("The question is malformed.", fields=wrong) from None
    except (ValueError, RecursionError):
        raise InvalidInput("The question is not JSON.") from None


def _json(value: dict[str, Any], status: int = 200) -> tuple[int, list[Header], bytes]:
    body = json.dumps(value).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    return status, headers, body


def _problem(error: IntaglioError) -> tuple[int, list[Header], bytes]:
    problem = {
        "type": f"urn:intaglio:problem:{error.code}",
        "title": type(error).__name__,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "remedy": error.remedy,
    }
    if error.fields:
        problem["errors"] = [{"pointer": pointer, "message": message} for pointer, message in error.fields]
    status, headers, body = _json(problem, error.status)
    headers[0] = (b"content-type", b"application/problem+json")
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="ingress"'))
    return status, headers, body
