"""Requests, responses and routes of the gateway: plain ASGI, because every enrolment passes through here."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from intaglio.core.clock import monotonic
from intaglio.core.errors import InvalidInput, NotFound, RateLimited, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HandlerType = TypeVar("HandlerType")

_MAX_QUERY = 16_384
_MAX_PARAMETERS = 100
_MAX_PATH = 65_536
_MAX_BUCKETS = 10_000


class Disconnected(Exception):
    """The client went away before its request was complete; nobody waits for an answer."""


@dataclass
class Request:
    """One request. ``path`` are the values of the placeholders of the route, percent-decoded once; ``about`` is what
    the request concerns, for the record of a refusal."""

    scope: Scope
    method: str
    path: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    about: str = ""

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """Query parameters. Raises InvalidInput."""
        raw: bytes = self.scope.get("query_string", b"")
        if not raw:
            return {}
        found: dict[str, list[str]] = {}
        try:
            if len(raw) > _MAX_QUERY:
                raise ValueError
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
            )
        except ValueError:
            raise InvalidInput("The query cannot be read.", code="request-malformed", target="query") from None
        for name, value in pairs:
            found.setdefault(name, []).append(value)
        return found

    def parameter(self, name: str) -> str | None:
        """The last value of a query parameter, None when it is absent."""
        values = self.query.get(name)
        return values[-1] if values else None

    def flag(self, name: str) -> bool:
        """A boolean query parameter; present without a value means true. Raises InvalidInput."""
        value = self.parameter(name)
        if value is None or value.lower() == "false":
            return False
        if value.lower() in ("", "true"):
            return True
        raise InvalidInput(f"{name} is true or false.", code="request-malformed", target=name)

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name, None when it is absent."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value).decode("latin-1").strip()
        return None

    @property
    def source(self) -> str:
        """Address of the peer."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def client_certificate(self) -> bytes | None:
        """The TLS client certificate (DER) that the peer has proven to hold."""
        tls = self.scope.get("extensions", {}).get("tls") or {}
        certificate: bytes | None = tls.get("client_cert_der")
        return certificate


@dataclass(frozen=True)
class Response:
    """A finished answer."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def json(cls, value: Mapping[str, Any], status: int = 200) -> Response:
        """An answer in JSON."""
        return cls(status, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())

    async def send(self, send: Send, *, with_body: bool = True) -> None:
        """Send the answer. Answers hold certificates and states, so nothing may be cached on the way."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-store"),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body if with_body else b""})


@dataclass(frozen=True)
class Route(Generic[HandlerType]):
    """A method and a path with ``{placeholders}``."""

    method: str
    pattern: str
    handler: HandlerType

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.pattern.strip("/").split("/"))


class Router(Generic[HandlerType]):
    """Finds the route of a request by its undecoded path."""

    def __init__(self, routes: Iterable[Route[HandlerType]]) -> None:
        self._by_length: dict[int, list[Route[HandlerType]]] = {}
        for route in routes:
            self._by_length.setdefault(len(route.parts), []).append(route)

    def find(self, method: str, segments: Sequence[str]) -> tuple[Route[HandlerType], dict[str, str]]:
        """The route and the values of its placeholders. Raises NotFound (``route-unknown``) and MethodNotAllowed."""
        allowed: set[str] = set()
        for route in self._by_length.get(len(segments), ()):
            values = _matched(route.parts, segments)
            if values is None:
                continue
            if route.method == method:
                return route, values
            allowed.update({"GET", "HEAD"} if route.method == "GET" else {route.method})
        if allowed:
            raise MethodNotAllowed(method, allowed)
        raise NotFound(
            "There is no such resource.",
            code="route-unknown",
            remedy="GET /cagw/doc lists the resources.",
            target="/" + "/".join(segments)[:200],
        )


class MethodNotAllowed(InvalidInput):
    """The resource exists and does not support the method; ``allowed`` are those it does."""

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(
            f"The resource does not support {method[:20]}.", code="method-not-allowed", remedy=f"Use {self.allowed}."
        )


def path_segments(scope: Scope) -> list[str]:
    """The segments of the path, each percent-decoded once. Raises InvalidInput when one is not UTF-8."""
    raw = scope.get("raw_path")
    text: bytes = raw if raw is not None else scope["path"].encode()
    text = text.partition(b"?")[0]
    try:
        if len(text) > _MAX_PATH:
            raise ValueError
        segments = [_decoded(part) for part in text.strip(b"/").split(b"/")]
    except ValueError:
        raise InvalidInput(
            "The path cannot be read.", code="request-malformed", remedy="Percent-encode it as UTF-8.", target="path"
        ) from None
    return segments


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge beyond ``limit`` octets, Disconnected."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Disconnected
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    chunks, length = [body], len(body)
    while message.get("more_body", False) and length <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks.append(message.get("body", b""))
        length += len(chunks[-1])
    if length > limit:
        raise TooLarge(f"The body is longer than {limit} octets.", code="too-large", remedy="Send less at once.")
    return b"".join(chunks)


class RateLimiter:
    """A token bucket per caller, counted per process."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: str, rate: float, burst: int) -> None:
        """Count one request: ``rate`` a second on average, ``burst`` at once.

        Raises RateLimited with the seconds to wait.
        """
        now = monotonic()
        tokens, since = self._buckets.pop(caller, (float(burst), now))
        tokens = min(burst, tokens + (now - since) * rate)
        # Popped and put back, a bucket moves to the end; the first is the one not used for longest.
        self._buckets[caller] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._buckets) > _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        if tokens < 1:
            seconds = max(1, round((1 - tokens) / rate))
            raise RateLimited(
                "Too many requests.", remedy=f"Try again in {seconds} s.", retry_after=seconds, extra={"step": "rate"}
            )


def _matched(parts: tuple[str, ...], segments: Sequence[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for part, segment in zip(parts, segments, strict=True):
        if part[0] == "{":
            if not segment:
                return None
            values[part[1:-1]] = segment
        elif part != segment:
            return None
    return values


def _decoded(part: bytes) -> str:
    return (unquote_to_bytes(part) if b"%" in part else part).decode("utf-8")
