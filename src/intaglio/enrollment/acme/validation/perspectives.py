"""Validation from elsewhere: services in other networks that look for themselves and may object.

What only this host sees (a poisoned cache, a hijacked route) is not seen by all of them (CA/Browser Forum Baseline
Requirements, section 3.2.2.9). They can take an agreement away and never make one, and are told nothing secret. A
service gets a POST with the challenge as JSON and answers ``{"valid": true}`` or ``{"valid": false, "detail": "."}``.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import httpx

from intaglio.core.errors import Refused
from intaglio.core.outgoing import Guard
from intaglio.enrollment.acme.validation.options import ValidationOptions
from intaglio.enrollment.acme.validation.values import Target, ValidationFailed
from intaglio.platform.outgoing import http_client

_MOST_OCTETS = 4096
_SECONDS = 30.0


async def agree(options: ValidationOptions, target: Target, guard: Guard) -> None:
    """Return when enough perspectives see the challenge met; ``guard`` says at which addresses they may be. Raises
    ValidationFailed (unauthorized)."""
    needed = min(options.perspectives_needed or len(options.perspectives), len(options.perspectives))
    body = _body(options, target)
    tls = ssl.create_default_context()
    async with http_client(guard, tls, timeout=_SECONDS) as client:
        objections = await asyncio.gather(*(_ask(client, str(url), body) for url in options.perspectives))
    agreed = sum(each is None for each in objections)
    if agreed < needed:
        why = next(each for each in objections if each is not None)
        raise ValidationFailed(
            "unauthorized", f"{agreed} of {needed} other places see the challenge of {target.value} met: {why}."
        )


def _body(options: ValidationOptions, target: Target) -> dict[str, Any]:
    return {
        "method": target.method,
        "identifier": {"type": target.kind, "value": target.value},
        "wildcard": target.wildcard,
        "token": target.token,
        "keyAuthorization": target.key_authorization,
        "httpPort": options.http_port,
        "tlsPort": options.tls_port,
    }


async def _ask(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> str | None:
    """None when this perspective agrees, else its objection."""
    try:
        async with asyncio.timeout(_SECONDS), client.stream("POST", url, json=body) as answer:
            read = bytearray()
            async for piece in answer.aiter_raw():
                read += piece
                if len(read) > _MOST_OCTETS:
                    return "one answers too much"
            if answer.status_code != 200:
                return f"one answers {answer.status_code}"
            said = json.loads(read)
    except (httpx.HTTPError, Refused, TimeoutError):
        return "one cannot be reached"
    except (ValueError, RecursionError):
        return "one answers no JSON"
    if isinstance(said, dict) and said.get("valid") is True:
        return None
    detail = said.get("detail") if isinstance(said, dict) else None
    return str(detail)[:200] if isinstance(detail, str) else "one objects"
