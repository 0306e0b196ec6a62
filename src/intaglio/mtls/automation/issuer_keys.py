"""The keys of token issuers: fetched from where their discovery document says, kept for a while, never trusted blindly.

Every process keeps its own copy. A key that is not known leads to a new look, at most every half minute, so that a
rotation is noticed at once and a flood of invented key ids reaches nobody. While an issuer cannot be reached, its known
keys go on counting for as long as the settings say.

Source: OpenID Connect Discovery 1.0 section 4, RFC 7517.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from intaglio.core.clock import monotonic
from intaglio.core.errors import InvalidInput, Refused, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.outgoing import Guard
from intaglio.platform import outgoing

log = get_logger(__name__)

PublicKey = RSAKey | ECKey | OKPKey

_PATIENCE = 5.0
_LARGEST = 256 * 1024
_MOST_KEYS = 100
_LEAST_INTERVAL = 30.0
_WEAKEST_RSA = 2048
_MOST_ISSUERS = 1000


@dataclass(frozen=True)
class Issuer:
    """A token issuer: its URL, where its keys are if not where discovery says, and the CA (PEM) of its server."""

    url: str
    jwks_url: str = ""
    ca: str = ""


@dataclass
class _Known:
    keys: list[PublicKey] = field(default_factory=list)
    read_at: float = float("-inf")
    tried_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    """The keys of every issuer that this process was asked about."""

    def __init__(self) -> None:
        self._known: dict[Issuer, _Known] = {}

    async def find(
        self, issuer: Issuer, key_id: str | None, guard: Guard, *, fresh_for: float, outage: float
    ) -> list[PublicKey]:
        """The keys with this id, or all of them when the token names none; empty when there is no such key.

        ``guard`` says at which addresses the issuer is looked for, ``fresh_for`` how many seconds keys count without a
        new look, ``outage`` how many more while the issuer cannot be reached. Raises Unavailable
        (``issuer-unreachable``).
        """
        known = self._remembered(issuer)
        found = _with_id(known.keys, key_id)
        if found and monotonic() - known.read_at < fresh_for:
            return found
        async with known.lock:
            await self._refresh(issuer, known, guard, wanted=key_id, fresh_for=fresh_for, outage=outage)
        return _with_id(known.keys, key_id)

    def _remembered(self, issuer: Issuer) -> _Known:
        if issuer not in self._known and len(self._known) >= _MOST_ISSUERS:
            self._known.pop(next(iter(self._known)))
        return self._known.setdefault(issuer, _Known())

    async def _refresh(
        self, issuer: Issuer, known: _Known, guard: Guard, *, wanted: str | None, fresh_for: float, outage: float
    ) -> None:
        """Look again unless somebody just did. Raises Unavailable when there is nothing to go on."""
        now = monotonic()
        if _with_id(known.keys, wanted) and now - known.read_at < fresh_for:
            return  # somebody else looked while this one waited
        if now - known.tried_at >= _LEAST_INTERVAL:
            known.tried_at = now
            try:
                known.keys = await fetch_keys(issuer, guard)
            except Unavailable as error:
                log.warning("the keys of a token issuer cannot be read", issuer=issuer.url, reason=error.detail)
            else:
                known.read_at = monotonic()
        if monotonic() - known.read_at > fresh_for + outage:
            raise Unavailable(
                f"The keys of the token issuer {issuer.url} cannot be read.",
                code="issuer-unreachable",
                remedy="Try again in half a minute; see the server's log for the reason.",
                retry_after=int(_LEAST_INTERVAL),
            )


async def fetch_keys(issuer: Issuer, guard: Guard) -> list[PublicKey]:
    """The signature keys that an issuer publishes at this moment. Raises Unavailable (``issuer-unreachable``)."""
    async with outgoing.http_client(guard, _trust(issuer), timeout=_PATIENCE) as client:
        where = issuer.jwks_url
        if not where:
            document = await _read(client, f"{issuer.url.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != issuer.url:
                raise _unreachable(issuer.url, "its discovery document is that of another issuer")
            where = str(document.get("jwks_uri", ""))
        return _keys(issuer, await _read(client, where))


def https_url(text: str, *, target: str) -> str:
    """An https URL without user, query or fragment. Raises InvalidInput."""
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and bool(parts.hostname) and not parts.username and not parts.query
        good = good and not parts.fragment and len(text) <= 500 and text.isascii() and text.isprintable()
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(f'"{text[:80]}" is not an https URL.', code="url-invalid", target=target)
    return text


def _trust(issuer: Issuer) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=issuer.ca or None)


async def _read(client: httpx.AsyncClient, url: str) -> Mapping[str, Any]:
    """A JSON object of at most 256 KiB. Raises Unavailable."""
    try:
        https_url(url, target="jwks_uri")
        async with asyncio.timeout(_PATIENCE), client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise _unreachable(url, f"it answers {answer.status_code}")
            body = bytearray()
            async for part in answer.aiter_raw():
                body += part
                if len(body) > _LARGEST:
                    raise _unreachable(url, f"the answer is longer than {_LARGEST} octets")
        found = json.loads(bytes(body))
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        raise _unreachable(url, str(error) or type(error).__name__) from None
    except (ValueError, RecursionError):
        raise _unreachable(url, "the answer is not JSON") from None
    except (InvalidInput, Refused) as error:
        raise _unreachable(url, error.detail) from None
    if not isinstance(found, dict):
        raise _unreachable(url, "the answer is not an object")
    return found


def _keys(issuer: Issuer, found: Mapping[str, Any]) -> list[PublicKey]:
    """The public signature keys of a key set; what is not one, or too weak, is left out."""
    members = found.get("keys")
    if not isinstance(members, list) or len(members) > _MOST_KEYS:
        raise _unreachable(issuer.url, f"its key set is no list of at most {_MOST_KEYS} keys")
    keys = [key for member in members if (key := _key(member)) is not None]
    if not keys:
        raise _unreachable(issuer.url, "its key set has no key for signatures")
    return keys


def _key(member: Any) -> PublicKey | None:
    if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC", "OKP"):
        return None  # above all no symmetric ones
    operations = member.get("key_ops", ["verify"])
    if member.get("use") not in (None, "sig") or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = JWKRegistry.import_key({name: value for name, value in member.items() if name != "d"})
        if not isinstance(key, (RSAKey, ECKey, OKPKey)):
            return None
        if isinstance(key, RSAKey) and key.public_key.key_size < _WEAKEST_RSA:
            return None
    except (JoseError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return key


def _with_id(keys: list[PublicKey], key_id: str | None) -> list[PublicKey]:
    return [key for key in keys if key_id is None or key.kid == key_id]


def _unreachable(url: str, why: str) -> Unavailable:
    return Unavailable(f"{url}: {why}.", code="issuer-unreachable")
