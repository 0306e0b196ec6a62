"""Renewal with the current certificate: it proves who asks, so no security code is needed.

The nonce stops a request from being used twice or for somebody else, and its session belongs to the certificate: only
who comes with that certificate can answer it.
"""

from __future__ import annotations

from intaglio.core.errors import InvalidInput, NotFound
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import enrolling, errors, limits
from intaglio.mtls.enrolment.sessions import OpenSession, Visitor, new_session, note, renewal_token
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities.bindings import Binding
from intaglio.mtls.identities.values import Identity, IssuedIdentity
from intaglio.platform import live_settings
from intaglio.x509.requests import parse_request


async def begin_renewal(
    mtls: Mtls, identity: Identity, binding: Binding, visitor: Visitor
) -> tuple[OpenSession, EnrolmentSettings]:
    """A nonce for the renewal of a certificate. Whoever calls has judged the certificate just now.

    Raises RateLimited.
    """
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
    await limits.count_request(mtls.database, visitor.source, settings.requests_per_minute, kind="renew")
    async with mtls.database.transaction() as tx:
        opened = await new_session(
            tx, identity, identity.email, visitor, settings.session_minutes, renews=binding.id
        )
        note(tx, identity, visitor, "begin-renewal", {}, serial=binding.serial_hex)
    return opened, settings


async def renew(mtls: Mtls, binding: Binding, csr: bytes | str, visitor: Visitor) -> IssuedIdentity:
    """Certify a new key for the holder of a certificate; the old one stays good until it ends.

    Raises what ``submit_request`` raises; a nonce that is unknown, spent or another certificate's is ``csr_mismatch``.
    """
    try:
        nonce = parse_request(csr, prove_possession=False).challenge_password
    except InvalidInput as error:
        if error.code in ("key-algorithm-not-allowed", "weak-key"):
            raise errors.csr_key_type(error.detail, error.remedy) from None
        raise errors.csr_malformed(error.detail) from None
    try:
        return await enrolling.submit_request(mtls, renewal_token(binding.id, nonce or ""), csr, visitor)
    except NotFound:
        raise errors.csr_mismatch(
            "The challengePassword of the request is no nonce that was given out for this certificate.",
            "Ask for a nonce (GET) and make a new request with it.",
        ) from None
