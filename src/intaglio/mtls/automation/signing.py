"""Certificates for identities that ask for themselves, without a person at work.

An identity proves itself with its present certificate, with a bootstrap token, or with a token of an issuer that a
pipeline trusts. Of the request only the key counts.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Literal
from uuid import UUID

from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.mtls.automation import bootstrap
from intaglio.mtls.automation.bootstrap import Redeemed
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import limits
from intaglio.mtls.identities.bindings import Binding
from intaglio.mtls.identities.bundles import bundle_of
from intaglio.mtls.identities.issuing import Ground, issue_identity
from intaglio.mtls.identities.values import Channel, Identity, IssuedIdentity
from intaglio.platform import live_settings
from intaglio.x509.certificates import read_certificate
from intaglio.x509.requests import CertificateRequest, parse_request


@dataclass(frozen=True)
class Wish:
    """What is asked for: a request (PEM or DER), and perhaps a shorter life or names below registered ones."""

    csr: bytes | str = field(repr=False)
    lifetime: timedelta | None = None
    dns_names: Sequence[str] = ()


@dataclass(frozen=True)
class Signed:
    """A certificate with what its holder needs to use it.

    ``anchors`` are what it trusts in others of its trust domain, ``issuers`` the CAs below them; ``renew_after`` is how
    long it should be used before the next one is asked for.
    """

    issued: IssuedIdentity
    anchors: tuple[bytes, ...] = field(repr=False)
    issuers: tuple[bytes, ...] = field(repr=False)
    crl_urls: tuple[str, ...]
    renew_after: timedelta


async def sign_for_holder(
    mtls: Mtls, identity: Identity, binding: Binding, wish: Wish, *, source: str, user_agent: str
) -> Signed:
    """Certify a new key for whoever holds a certificate of the identity, which was judged just now.

    Raises RateLimited, and what :func:`issue_identity` raises.
    """
    await count_use(mtls, identity, "issue")
    issued = await issue_identity(
        mtls, identity.principal(source), identity, wish.csr, channel=Channel.AGENT, lifetime=wish.lifetime,
        source=source, user_agent=user_agent, also_dns=wish.dns_names, renews=binding.id,
    )  # fmt: skip
    return await completed(mtls, issued)


async def sign_for_token(mtls: Mtls, token: str, wish: Wish, *, source: str, user_agent: str) -> Signed:
    """Certify a key for whoever has a bootstrap token. The same request again gets the same certificate.

    A refused request leaves the token usable. Raises what :func:`issue_identity` and :func:`bootstrap.redeem` raise.
    """
    request = parse_request(wish.csr)
    spki_sha256 = hashlib.sha256(request.spki).digest()
    redeemed = await bootstrap.redeem(mtls, token, "sign", source, spki_sha256=spki_sha256)
    async with _given_back(mtls, redeemed, spki_sha256):
        await count_use(mtls, redeemed.identity, "issue")
        issued = await issue_identity(
            mtls, redeemed.identity.principal(source), redeemed.identity, request, channel=Channel.AGENT,
            lifetime=wish.lifetime, source=source, user_agent=user_agent, also_dns=wish.dns_names,
            idempotency_key=f"bootstrap:{redeemed.token_id}:{spki_sha256.hex()}",
            ground=partial(bootstrap.require_counting, token_id=redeemed.token_id),
        )  # fmt: skip
    return await completed(mtls, issued)


async def sign_within(
    mtls: Mtls,
    identity: Identity,
    request: CertificateRequest | bytes | str,
    channel: Channel,
    *,
    lifetime: timedelta | None,
    dns_names: Sequence[str] = (),
    source: str,
    user_agent: str,
    ground: Ground,
    renews: UUID | None = None,
) -> Signed:
    """Certify a key for an identity that was proved otherwise, by something of which ``ground`` says whether it still
    counts; ``renews`` is the binding of the certificate that proved it, if one did. Raises RateLimited, and what
    :func:`issue_identity` raises."""
    await count_use(mtls, identity, "issue")
    issued = await issue_identity(
        mtls, identity.principal(source), identity, request, channel=channel, lifetime=lifetime, source=source,
        user_agent=user_agent, also_dns=dns_names, renews=renews, ground=ground,
    )  # fmt: skip
    return await completed(mtls, issued)


async def count_use(mtls: Mtls, identity: Identity, kind: Literal["issue", "login"]) -> None:
    """Count what an identity asks for. Raises RateLimited beyond what one may in a minute."""
    async with mtls.database.read() as view:
        limit = (await live_settings.current(view, AutomationSettings)).issues_per_minute
    await limits.count_of_identity(mtls.database, identity.id, limit, kind=kind)


async def completed(mtls: Mtls, issued: IssuedIdentity) -> Signed:
    """Add bundle and CRL addresses to a certificate."""
    domain = issued.identity.domain
    bundle = bundle_of(await mtls.authority.current(), domain.name, [domain])
    return Signed(
        issued,
        tuple(each.der for each in bundle.anchors),
        tuple(each.der for each in bundle.issuers),
        tuple(read_certificate(issued.certificate).crl_urls),
        (issued.not_after - issued.not_before) * 2 / 3,
    )


@contextlib.asynccontextmanager
async def _given_back(mtls: Mtls, redeemed: Redeemed, spki_sha256: bytes) -> AsyncIterator[None]:
    """Give the use back when nothing came of it. Where that is not known, the same request may be made again."""
    try:
        yield
    except Unavailable:
        raise
    except IntaglioError:
        if redeemed.fresh:
            await bootstrap.give_back(mtls, redeemed, spki_sha256)
        raise
