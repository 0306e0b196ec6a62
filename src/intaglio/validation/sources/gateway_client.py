"""A client of a CA gateway's certificate events (`/cagw/v1`), with everything that comes back checked."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from intaglio.core import clock
from intaglio.core.errors import InvalidInput, Refused, StateConflict, Unavailable
from intaglio.core.identifiers import serial_from_hex
from intaglio.core.outgoing import Guard
from intaglio.platform import outgoing
from intaglio.validation.sources.fetching import timed_out, too_large, unreachable
from intaglio.validation.sources.importing import GOOD, HELD, REVOKED
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.crls import REASONS

#: Octets of an answer: so many for every event that was asked for, and for whatever else stands there.
_OCTETS_PER_EVENT, _OCTETS_BESIDE = 64 * 1024, 1024 * 1024
_LONGEST_CURSOR = 1_000
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_TOLERATED_FUTURE = timedelta(days=1)
#: What happened to a certificate, in the words of gateways, and what it is then.
_ACTIONS = {
    "issued": GOOD, "issue": GOOD, "unheld": GOOD, "unhold": GOOD, "unrevoked": GOOD, "released": GOOD,
    "held": HELD, "hold": HELD, "suspended": HELD, "onhold": HELD, "revoked": REVOKED, "revoke": REVOKED,
    "deactivated": REVOKED,
}  # fmt: skip
_REASONS = {name.lower(): code for name, code in REASONS.items()}
_HOLD = REASONS["certificateHold"]


class CursorUnknown(StateConflict):
    """The gateway does not know the position any more: its feed is another one."""

    default_code = "feed-cursor-unknown"


@dataclass(frozen=True)
class Event:
    """Something that happened to a certificate. ``id`` is the number that the gateway gives it."""

    id: str
    serial: bytes
    state: int
    at: datetime
    reason: int | None
    issued: bool
    certificate: CertificateInfo | None = field(repr=False, default=None)

    @property
    def mark(self) -> list[str]:
        """What tells this event from others, for a later comparison."""
        return [self.id, self.serial.hex(), str(self.state)]


@dataclass(frozen=True)
class Page:
    """``cursor`` is where the feed goes on, None when the gateway does not say; ``more`` when it does so already."""

    events: Sequence[Event]
    cursor: str | None
    more: bool


class GatewayClient:
    """Requests about one CA of a gateway. ``timeout`` is for a whole request."""

    def __init__(self, url: str, ca: str, guard: Guard, tls: ssl.SSLContext, timeout: timedelta) -> None:
        self._base = f"{url.rstrip('/')}/v1/certificate-authorities/{quote(ca, safe='~-._')}"
        self._url, self._ca = url, ca
        self._timeout = timeout.total_seconds()
        self._http = outgoing.http_client(guard, tls, timeout=self._timeout)

    async def close(self) -> None:
        await self._http.aclose()

    async def events(self, cursor: str | None, limit: int, *, with_certificates: bool) -> Page:
        """The events after a position, oldest first; from the beginning without one.

        Raises CursorUnknown, Unavailable, TimedOut, TooLarge, Refused (``gateway-refused``, ``feed-not-understood``).
        """
        query = {"preferredPageSize": str(limit)}
        if cursor is not None:
            query["nextPageIndex"] = cursor
        if not with_certificates:
            query["$fields"] = "-events.certificate"
        status, body = await self._get("/certificate-events", query, most=limit * _OCTETS_PER_EVENT)
        if status == 400 and cursor is not None:
            raise CursorUnknown("The gateway does not know the position in its events any more.")
        return _page(self._require_ok(status, body))

    async def capabilities(self) -> Mapping[str, Any]:
        """The ``role`` of our account at the CA, and its ``capabilities``. Raises as :meth:`events`."""
        return self._require_ok(*await self._get("/capabilities", {}))

    async def certificates(self) -> list[CertificateInfo]:
        """The certificate of the CA, and its chain as far as it is told. Raises as :meth:`events`."""
        body = self._require_ok(*await self._get("", {"$fields": "ca.certificate,ca.chain"}))
        ca = body.get("ca")
        if not isinstance(ca, dict):
            raise _not_understood("the CA is not described")
        described = [ca.get("certificate"), *(ca["chain"] if isinstance(ca.get("chain"), list) else [])]
        shown = [each for each in described[:20] if isinstance(each, dict) and "certificateData" in each]
        return [_certificate(each["certificateData"]) for each in shown]

    async def _get(self, path: str, query: Mapping[str, str], *, most: int = 0) -> tuple[int, Any]:
        """Status and decoded body of an answer, for which ``most`` octets more than usual are read."""
        most += _OCTETS_BESIDE
        asked = {"params": query, "headers": {"Accept": "application/json"}}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream("GET", self._base + path, **asked) as answer,  # type: ignore[arg-type]
            ):
                data = bytearray()
                async for chunk in answer.aiter_raw():
                    data += chunk
                    if len(data) > most:
                        raise too_large(f"The answer of {self._url}", most)
        except (httpx.TimeoutException, TimeoutError):
            raise timed_out(self._url) from None
        except (httpx.HTTPError, OSError) as error:
            raise unreachable(self._url, str(error) or type(error).__name__) from None
        try:
            return answer.status_code, json.loads(data or b"null")
        except (ValueError, RecursionError):
            return answer.status_code, None

    def _require_ok(self, status: int, body: Any) -> Mapping[str, Any]:
        if status == 200 and isinstance(body, dict):
            return body
        told = _told(body)
        if status in (429, 500, 502, 503, 504):
            raise Unavailable(f"The gateway answers {status}{told}.", code="source-unreachable")
        remedies = {
            401: "Give the gateway our client credential: intaglio ocsp credential list shows its DN.",
            403: "The account of our credential needs a role that may read events, for all profiles of the CA.",
            404: "Compare the id of the CA with the list of the gateway.",
        }
        raise Refused(
            f"The gateway answers {status}{told}.", code="gateway-refused", remedy=remedies.get(status, "")
        )


def _told(body: Any) -> str:
    """What an error of the gateway says, as far as it is text."""
    error = body.get("error", body) if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if isinstance(message, dict):
        message = message.get("message")
    return f' ("{"".join(c for c in message[:200] if c.isprintable())}")' if isinstance(message, str) else ""


def _page(body: Mapping[str, Any]) -> Page:
    events, cursor = body.get("events"), body.get("nextPageIndex")
    more = body.get("morePages", body.get("hasMore"))
    if not isinstance(events, list) or not isinstance(more, bool):
        raise _not_understood("a page of events has neither events nor says whether there are more")
    if cursor is not None and (not isinstance(cursor, str | int) or len(str(cursor)) > _LONGEST_CURSOR):
        raise _not_understood("the position of the next page is not one")
    if more and cursor in (None, ""):
        raise _not_understood("there are more pages, but not where")
    return Page([_event(each) for each in events], None if cursor in (None, "") else str(cursor), more)


def _event(given: Any) -> Event:
    if not isinstance(given, dict):
        raise _not_understood("an event is not an object")
    action = str(given.get("action", "")).lower()
    state = _ACTIONS.get(action)
    if state is None:
        # What is not understood may be a revocation: nothing may be answered from a feed with a gap.
        raise _not_understood(f'there is an event "{action[:40]}"')
    try:
        serial = serial_from_hex(str(given.get("serialNumber", "")))
        at = _moment(given.get("eventDate"))
    except (InvalidInput, ValueError, OverflowError):
        raise _not_understood("an event has no serial number, or no date that can be") from None
    certificate = _certificate(given["certificate"]) if given.get("certificate") else None
    if certificate is not None and certificate.serial != serial:
        raise _not_understood("an event carries the certificate of another serial number")
    reason = None
    if state != GOOD:
        reason = _HOLD if state == HELD else _REASONS.get(str(given.get("reason") or "").lower())
    issued = action in ("issued", "issue")
    return Event(str(given.get("event", ""))[:100], serial, state, at, reason, issued, certificate)


def _moment(text: Any) -> datetime:
    """A date in UTC that there can be: what no other program could read back does not get into the database."""
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a date without a zone")
    moment = moment.astimezone(UTC)
    if not _EARLIEST <= moment <= clock.now() + _TOLERATED_FUTURE:
        raise ValueError("a date before all certificates, or yet to come")
    return moment


def _certificate(text: Any) -> CertificateInfo:
    try:
        return read_certificate(base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError, InvalidInput):
        raise _not_understood("a certificate is not one") from None


def _not_understood(why: str) -> Refused:
    return Refused(
        f"The events of the gateway are not understood: {why}.",
        code="feed-not-understood",
        remedy="Compare the version of the gateway; until then nothing is answered from this feed.",
    )
