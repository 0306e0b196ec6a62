"""Identity tokens of CI systems and clusters: signed by their issuer, for us, and still good.

Source: RFC 7515, RFC 7519 section 4.1, RFC 8725 (the algorithm comes from our list, never from the token alone).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from intaglio.core import clock
from intaglio.core.outgoing import Guard
from intaglio.mtls.automation.errors import jwt_invalid
from intaglio.mtls.automation.issuer_keys import Issuer, IssuerKeys, PublicKey

LONGEST_TOKEN = 16 * 1024
SKEW = timedelta(seconds=60)
_LONGEST_LIFE = timedelta(hours=24)
#: Signatures that count, and the kind of key each takes: a public key must never be used as a shared secret.
_ALGORITHMS: Mapping[str, str] = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP", "Ed25519": "OKP",
}  # fmt: skip


class _Registry(JWSRegistry):
    max_header_length = 4096
    max_payload_length = LONGEST_TOKEN
    max_signature_length = 2048


_REGISTRY = _Registry(algorithms=list(_ALGORITHMS), strict_check_header=False)


@dataclass(frozen=True)
class Proved:
    """The claims of a token that counts, when it ends, and by what it is known again: the SHA-256 of what is signed,
    since a signature may be written in several ways."""

    claims: Mapping[str, Any]
    expires_at: datetime
    sha256: bytes = field(repr=False)


def claimed_issuer(token: str) -> str:
    """The issuer that an unverified token names. Raises Unauthenticated (``identity-token-invalid``)."""
    _, claims = _opened(token)
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or len(issuer) > 500:
        raise jwt_invalid("it names no issuer")
    return issuer


async def verify(
    token: str, issuer: Issuer, audience: str, keys: IssuerKeys, guard: Guard, *, fresh_for: float, outage: float
) -> Proved:
    """Check signature and times of a token made by ``issuer`` for ``audience``.

    ``guard``, ``fresh_for`` and ``outage`` as in :meth:`IssuerKeys.find`. Raises Unauthenticated
    (``identity-token-invalid``), Unavailable (``issuer-unreachable``).
    """
    header, _ = _opened(token)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise jwt_invalid("its signature algorithm is not accepted")
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= 500):
        raise jwt_invalid("its key id is malformed")
    found = await keys.find(issuer, key_id, guard, fresh_for=fresh_for, outage=outage)
    fitting = [key for key in found if _fits(key, algorithm)]
    if not fitting:
        raise jwt_invalid("the issuer has no key of this id for this algorithm")
    if len(fitting) > 1:
        raise jwt_invalid("it does not say which key of the issuer signed it")
    claims = _verified(token, fitting[0], algorithm)
    expires_at = _checked(claims, issuer, audience)
    return Proved(claims, expires_at, hashlib.sha256(token.rpartition(".")[0].encode()).digest())


def _opened(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, nothing of them verified."""
    if len(token) > LONGEST_TOKEN:
        raise jwt_invalid(f"it is longer than {LONGEST_TOKEN} characters")
    try:
        found = jws.extract_compact(token.encode("ascii"), registry=_REGISTRY)
        claims = json.loads(found.payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise jwt_invalid("it is no signed JSON Web Token") from None
    header = found.headers()
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise jwt_invalid("it is no signed JSON Web Token")
    return header, claims


def _fits(key: PublicKey, algorithm: str) -> bool:
    return key.key_type == _ALGORITHMS[algorithm] and key.alg in (None, algorithm)


def _verified(token: str, key: PublicKey, algorithm: str) -> Mapping[str, Any]:
    try:
        return jwt.decode(token, key, registry=_Registry(algorithms=[algorithm], strict_check_header=False)).claims
    except (JoseError, ValueError, TypeError, RecursionError):
        raise jwt_invalid("its signature is wrong") from None


def _checked(claims: Mapping[str, Any], issuer: Issuer, audience: str) -> datetime:
    """When a token ends that is for us and counts now."""
    now = clock.now()
    if claims.get("iss") != issuer.url:
        raise jwt_invalid("it is another issuer's")
    audiences = claims.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise jwt_invalid("it was made for another audience")
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    if expires + SKEW <= now:
        raise jwt_invalid("it has expired")
    if issued - SKEW > now or ("nbf" in claims and _moment(claims, "nbf") - SKEW > now):
        raise jwt_invalid("it is not valid yet")
    if expires - issued > _LONGEST_LIFE:
        raise jwt_invalid(f"it is valid for longer than {_LONGEST_LIFE.total_seconds() / 3600:.0f} hours")
    return expires


def _moment(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise jwt_invalid(f"its claim {name} is no point in time")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise jwt_invalid(f"its claim {name} is no point in time") from None

