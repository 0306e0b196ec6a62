"""ACME over HTTP: from a request to the one who signed it, to what he asks for, to its answer.

Every POST is a JWS (RFC 8555 section 6.2): its media type, size, form, ``url``, nonce, signer and signature are judged
in this order, and only then what it says. Every answer carries a nonce and names the directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, TooLarge, Unavailable
from intaglio.core.logging import get_logger
from intaglio.enrollment import pipeline, urls
from intaglio.enrollment.acme.call import Account, Answer, Call, Links, id_of
from intaglio.enrollment.acme.context import Acme
from intaglio.enrollment.acme.errors import (
    MEDIA_TYPE,
    AccountDoesNotExist,
    AcmeProblem,
    BadNonce,
    Malformed,
    NotHere,
    ResourceUnknown,
    Unauthorized,
    WrongMediaType,
    problem,
)
from intaglio.enrollment.acme.jws import MAX_OCTETS, Jws, parse_request
from intaglio.enrollment.acme.resources import OPEN, Place, Resource, find
from intaglio.enrollment.acme.strict_json import read_object
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Applicant, Endpoint, Protocol

log = get_logger(__name__)

_JOSE: Final = b"application/jose+json"
_HEADER: Final = {"key": "jwk", "account": "kid"}


class AcmeApp:
    """ASGI application of everything below ``/acme/{tenant}/{ca}/{profile}/``."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self.acme = Acme(enrollment)
        enrollment.on_close.append(self.acme.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(self.acme, scope, receive)
        answer = await exchange.answer()
        await _send(scope, send, answer, await self._headers(exchange, answer))

    async def _headers(self, exchange: _Exchange, answer: Answer) -> list[tuple[bytes, bytes]]:
        headers = [
            ("content-type", answer.media_type if answer.body else ""),
            ("cache-control", "no-store"),
            *answer.headers.items(),
            *(("Link", f'<{url}>;rel="{relation}"') for url, relation in answer.links),
        ]
        if exchange.place is not None and exchange.operation != "directory":
            headers.append(("Link", f'<{exchange.place.links.directory}>;rel="index"'))
        if exchange.gives_nonce:
            try:
                headers.append(("Replay-Nonce", await self.acme.nonces.fresh()))
            except IntaglioError as error:  # a client asks for one when it has none
                log.warning("an answer goes without a nonce", reason=error.detail)
        return [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers if value]


class _Exchange:
    """One request on its way to its answer."""

    def __init__(self, acme: Acme, scope: Scope, receive: Receive) -> None:
        self.acme, self.scope, self._receive = acme, scope, receive
        self.method: str = scope["method"]
        self.operation = "unknown"
        self.place: Place | None = None
        self._applicant: Applicant | None = None
        self._source = ""

    @property
    def gives_nonce(self) -> bool:
        return self.method == "POST" or self.operation == "new-nonce"

    @property
    def endpoint(self) -> Endpoint | None:
        return None if self.place is None else self.place.endpoint

    async def answer(self) -> Answer:
        """The answer, whatever it is; refusals are noted."""
        started = monotonic()
        try:
            answer = await self._serve()
            outcome = _outcome(self.operation, answer)
        except IntaglioError as error:
            answer, outcome = _refusal(error), "refused" if error.status < 500 else "failed"
            self._note(error)
        except Exception:
            log.exception("an ACME request failed", operation=self.operation)
            answer, outcome = _refusal(IntaglioError("The server could not complete the request.")), "failed"
        pipeline.served(Protocol.ACME, self.endpoint, self.operation, outcome, monotonic() - started)
        return answer

    async def _serve(self) -> Answer:
        live = await self.acme.live()
        self._source = urls.source_of(live, self.scope)
        parameters = self.scope["path_params"]
        if "resource" not in parameters:
            raise ResourceUnknown("An ACME directory is at /acme/TENANT/ORGANIZATION~CA/PROFILE/directory.")
        endpoint = await self.acme.enrollment.endpoints.at(
            Protocol.ACME, parameters["tenant"], parameters["ca"], parameters["profile"]
        )
        base = urls.asked_base(self.acme.enrollment.settings, live, self.scope)
        place = self.place = Place(endpoint, Links(f"{base}/acme/{endpoint.tenant}/{endpoint.ca}/{endpoint.profile}"))
        endpoint.require_admitted(self._source)
        name, *rest = parameters["resource"].split("/")
        if (act := OPEN.get(name)) is not None:
            self.operation = name
            if self.method not in ("GET", "HEAD"):
                raise _not_here("GET, HEAD")
            return await act(self.acme, place, rest)
        self.operation, resource = find([name, *rest])
        if self.method != "POST":
            raise _not_here("POST")
        return await resource.act(await self._call(place, resource), rest)

    async def _call(self, place: Place, resource: Resource) -> Call:
        """The request as one that is known to come from its signer."""
        endpoint, links = place.endpoint, place.links
        content_type = next((value for name, value in self.scope["headers"] if name == b"content-type"), b"")
        if content_type.partition(b";")[0].strip().lower() != _JOSE:
            raise WrongMediaType("A request has the media type application/jose+json.")
        message = parse_request(await self._body())
        url = self._url(links)
        if message.url != url:
            raise Unauthorized(
                f"The request was signed for another URL than {url}.",
                remedy="Check how proxies on the way change the host, and the setting enrollment.base_url.",
            )
        if resource.signer != "either" and message.has_jwk != (resource.signer == "key"):
            raise Malformed(f"This resource is asked with {_HEADER[resource.signer]} in the header.")
        if not message.nonce:
            raise BadNonce("The request has no nonce.")
        if message.has_jwk:
            await self.acme.admission.admit(message.nonce, None)
            account, signer = None, message.jwk
        else:
            account = await self._account(message, message.nonce, endpoint)
            signer = account.jwk
        message.verify(signer)
        self._applicant = Applicant(f"acme:{account.id}" if account else "anonymous", "account", self._source)
        if account is not None and account.status != "valid":
            raise Unauthorized(f"The account is {account.status}.", remedy="Register another key.")
        return Call(self.acme, endpoint, links, url, self._source, signer, account, _payload(message))

    async def _account(self, message: Jws, nonce: str, endpoint: Endpoint) -> Account:
        kid = message.kid or ""
        # The host is left out of it: an account outlives a change of the name under which its server is reached.
        head, _, text = kid.rpartition("/account/")
        place = f"/acme/{endpoint.tenant}/{endpoint.ca}/{endpoint.profile}"
        scheme, _, rest = head.partition("://")
        if scheme not in ("https", "http") or rest.partition("/")[1] + rest.partition("/")[2] != place:
            raise AccountDoesNotExist("The kid is no account of this endpoint.")
        try:
            account_id = id_of(text, "account")
        except ResourceUnknown:
            raise AccountDoesNotExist("The kid is no account of this endpoint.") from None
        row = await self.acme.admission.admit(nonce, account_id)
        if row is None or row["endpoint_id"] != endpoint.id:
            raise AccountDoesNotExist("There is no account with this URL.")
        return Account.of(row)

    def _url(self, links: Links) -> str:
        query = self.scope["query_string"].decode("latin-1")
        return f"{links.root}/{self.scope['path_params']['resource']}" + (f"?{query}" if query else "")

    async def _body(self) -> bytes:
        body, more = b"", True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Malformed("The request was broken off.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_OCTETS:
                raise TooLarge(f"A request has at most {MAX_OCTETS} octets.")
        return body

    def _note(self, error: IntaglioError) -> None:
        if error.status >= 500:
            log.warning("an ACME request failed", operation=self.operation, code=error.code, reason=error.detail)
        if isinstance(error, BadNonce):  # the way of the protocol to hand out a new one
            return
        pipeline.refused(
            self.acme.enrollment,
            self.endpoint,
            self._applicant,
            self.operation,
            error,
            protocol=Protocol.ACME,
            source=self._source,
        )


def _payload(message: Jws) -> Mapping[str, Any] | None:
    return read_object(message.payload, "The payload") if message.payload else None


def _not_here(allowed: str) -> NotHere:
    return NotHere(f"This resource is asked by {allowed}.", headers={"Allow": allowed})


def _outcome(operation: str, answer: Answer) -> str:
    if operation != "finalize":
        return "answered"
    return "granted" if answer.document and answer.document["status"] == "valid" else "waiting"


def _refusal(error: IntaglioError) -> Answer:
    headers = dict(error.headers) if isinstance(error, AcmeProblem) else {}
    if error.retry_after is not None or isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, error.retry_after or 1))
    return Answer(problem(error), error.status, headers, media_type=MEDIA_TYPE)


async def _send(scope: Scope, send: Send, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
    body, status = answer.body, answer.status
    if status == 204 and scope["method"] == "HEAD":
        status = 200  # RFC 8555 section 7.2
    if status != 204:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

