"""What is said about a certificate: from its status, and from what the status profile makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from intaglio.authority.live_status import Status
from intaglio.validation.ocsp import responses
from intaglio.validation.ocsp.entries import Entry
from intaglio.validation.ocsp.issuers import Issuer
from intaglio.validation.ocsp.outlines import Single
from intaglio.validation.ocsp.requests import CertId
from intaglio.validation.sources.freshness import State
from intaglio.validation.status_profiles import EIGHT_HOURS, NEVER_ISSUED_SINCE, StatusProfile

#: How long an answer about a certificate nobody issued may be believed.
_UNKNOWN_VALIDITY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said about one certificate. ``known``: its issuer knows it, so what is said holds until a change is
    heard of. ``never_issued``: it counts as revoked because nobody issued it."""

    single: Single
    known: bool
    never_issued: bool = False


def state_native(certificate: CertId, issuer: Issuer, status: Status | None) -> Statement:
    """About a certificate of one of our own CAs; ``status`` None stands for a serial number that cannot exist."""
    assert issuer.generation is not None
    known = status is not None and status.known_to(issuer.generation)
    if status is None or not known:
        encoded = responses.UNKNOWN
    elif status.state == "valid":
        encoded = responses.GOOD
    else:
        assert status.revoked_at is not None  # whatever is not valid has been so since then
        encoded = responses.revoked(status.revoked_at, status.reason)
    if issuer.profile is None:
        validity = issuer.validity if known else min(issuer.validity, _UNKNOWN_VALIDITY)
        return Statement(Single(certificate.der + encoded, validity=validity, clamped=True), known)
    return _by_profile(certificate, issuer, issuer.profile, encoded, known, None)


def state_foreign(certificate: CertId, issuer: Issuer, entry: Entry | None, state: State) -> Statement:
    """About a certificate of another CA, as its source told; ``entry`` None stands for an impossible serial number."""
    assert issuer.profile is not None
    known = entry is not None and entry.known
    if entry is None or not known:
        encoded = responses.UNKNOWN
    elif not entry.revoked:
        encoded = responses.GOOD
    else:
        encoded = responses.revoked(entry.revoked_at or NEVER_ISSUED_SINCE, entry.reason)
    if not known and entry is not None and issuer.profile.unknown == "good":
        # A CRL names everything that is revoked, so not to be on it is a status like another.
        known, encoded = True, responses.GOOD
    return _by_profile(certificate, issuer, issuer.profile, encoded, known, state)


def _by_profile(
    certificate: CertId, issuer: Issuer, profile: StatusProfile, encoded: bytes, known: bool, state: State | None
) -> Statement:
    never_issued = not known and profile.unknown == "revoked"
    if never_issued:
        encoded = responses.NEVER_ISSUED
    this_update = None if state is None else state.this_update
    next_update = state.next_update if state is not None and profile.next_update == "source" else None
    validity = EIGHT_HOURS if profile.next_update == "eight-hours" else None
    single = Single(certificate.der + encoded, this_update, next_update, validity, extensions=issuer.cutoff)
    return Statement(single, known, never_issued)
