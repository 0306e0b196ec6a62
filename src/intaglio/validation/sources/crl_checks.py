"""Whether a CRL may be believed: signed by the CA, current, newer than what is known, and about what is meant.

Sources: RFC 5280 sections 5.1.2, 5.2 and 6.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from intaglio.core.errors import IntaglioError, Refused
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.crl_reading import Crl, Scope

#: A CRL that says it was made later than this from now was made by a wrong clock, or is not meant to count yet.
TOLERATED_FUTURE = timedelta(minutes=1)


@dataclass(frozen=True)
class Before:
    """What is known of the CRL that was taken in last."""

    number: int | None = None
    this_update: datetime | None = None


@dataclass(frozen=True)
class Signers:
    """Who may sign the CRLs of an authority: the CA itself, and those who issue indirect CRLs for it."""

    ca: Sequence[CertificateInfo]
    others: Sequence[CertificateInfo] = ()


def check_crl(
    crl: Crl, signers: Signers, now: datetime, before: Before, *, max_age: timedelta | None = None
) -> None:
    """Check a CRL that was just read; its signature takes time with its size. ``max_age`` is how long one is believed
    that does not say when it ends.

    Raises Refused: ``crl-issuer-wrong``, ``crl-signature-invalid``, ``crl-expired``, ``crl-from-the-future``,
    ``crl-without-next-update``, ``crl-older``, ``crl-scope-unfit``.
    """
    _check_dates(crl, now, max_age)
    _check_scope(crl.scope)
    _check_newer(crl, before)
    _check_signature(crl, _those_named(crl, signers, now))


def end_of(crl: Crl, max_age: timedelta | None) -> datetime | None:
    """Until when a CRL counts; None for one that does not say, where nobody set a ``max_age``."""
    if crl.next_update is not None or max_age is None:
        return crl.next_update
    return crl.this_update + max_age


def identity_of(crl: Crl) -> str:
    """What tells the CRLs of one CA apart: scope and signing key. A delta has that of the CRL it goes with."""
    scope = crl.scope
    flags = bytes((scope.only_user, scope.only_ca, scope.only_attribute, *sorted(scope.reasons or ())))
    return hashlib.sha256(b"\0".join((scope.point, flags, crl.authority_key or b""))).hexdigest()


def about_of(scope: Scope) -> Literal["all", "user", "ca"]:
    """Which certificates a CRL is about."""
    return "user" if scope.only_user else "ca" if scope.only_ca else "all"


def check_same_scope(scope: Scope, before: Mapping[str, Any], url: str) -> None:
    """Check that a CRL is about what the one before it was about: else somebody put another partition of the same CA,
    just as well signed, in its place, and whatever was revoked there would be so no longer.

    ``before`` are the facts of the one before. What is about more is fine; another name is when it is that of the
    ``url`` that the CRL came from. Raises Refused (``crl-scope-changed``). Source: RFC 5280 sections 5.2.5 and 6.3.3.
    """
    if "point" not in before:
        return
    about, point = about_of(scope), hashlib.sha256(scope.point).hexdigest()
    same_point = not scope.point or point == before["point"] or (url != "" and url in scope.urls)
    if not same_point or about not in ("all", before["about"]):
        raise _refused(
            "crl-scope-changed",
            "The CRL is about other certificates than the one before it.",
            "If the CA divides its CRLs otherwise now, read them anew: intaglio ocsp authority reset-source.",
        )


def check_together(abouts: Collection[str], covers: Literal["all", "user", "ca"]) -> None:
    """Check that the CRLs of an authority are together about all certificates that it is asked about.

    Raises Refused (``crl-scope-unfit``).
    """
    if "all" in abouts or covers in abouts or {"user", "ca"} <= set(abouts):
        return
    only = " and ".join(sorted(abouts))
    raise _scope_unfit(
        f"all CRLs together are about {only} certificates only",
        f'Add the CRL about the others, or set covers to "{only}" if nobody asks about them.',
    )


def check_covers(scope: Scope, covers: Literal["all", "user", "ca"], *, alone: bool) -> None:
    """Check that the only CRL of an authority is about all certificates that it is asked about.

    Raises Refused (``crl-scope-unfit``).
    """
    about = about_of(scope)
    if about != "all" and alone and covers != about:
        raise _scope_unfit(
            f"the CRL is about {about} certificates only",
            f'Add the CRL about the others, or set covers to "{about}" if nobody asks about them.',
        )


def check_reasons(reasons: Collection[frozenset[int] | None]) -> None:
    """Check that CRLs for some reasons only are together about all of them: else a certificate that was revoked for
    another one would be good. None is a CRL for all reasons, which says nothing about where the others count.

    Raises Refused (``crl-scope-unfit``). Source: RFC 5280 sections 5.2.5 and 6.3.3.
    """
    partial = [each for each in reasons if each is not None]
    missing = sorted(_REASONS.keys() - frozenset[int]().union(*partial))
    if partial and missing:
        raise _scope_unfit(
            f"nothing is said about {', '.join(_REASONS[each] for each in missing)}",
            "Add the CRLs for the other reasons, or use one for all of them.",
        )


#: ReasonFlags by their numbers. Source: RFC 5280 section 4.2.1.13.
_REASONS = {
    1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded", 5: "cessationOfOperation",
    6: "certificateHold", 7: "privilegeWithdrawn", 8: "aACompromise",
}  # fmt: skip


def _check_dates(crl: Crl, now: datetime, max_age: timedelta | None) -> None:
    if crl.this_update > now + TOLERATED_FUTURE:
        raise _refused("crl-from-the-future", f"The CRL is dated {crl.this_update:%Y-%m-%d %H:%M:%S}, yet to come.")
    end = end_of(crl, max_age)
    if end is None:
        raise _refused(
            "crl-without-next-update",
            "The CRL does not say when the next one comes.",
            "To believe it for a while all the same, set max_age (--max-age).",
        )
    if end <= now:
        raise _refused("crl-expired", f"The CRL expired at {end:%Y-%m-%d %H:%M:%S}.")


def _check_scope(scope: Scope) -> None:
    if scope.only_attribute:
        raise _scope_unfit("it is about attribute certificates only", "Use the CRL about public-key certificates.")
    if scope.only_user and scope.only_ca:
        raise _scope_unfit("it is about nothing", "Ask the CA.")


def _check_newer(crl: Crl, before: Before) -> None:
    """Source: RFC 5280 section 5.2.3: numbers rise, and the same number means the same CRL."""
    if before.number is not None and crl.number is None:
        raise _refused("crl-older", f"The CRL has no number, the one before had {before.number}.")
    if before.number is not None and crl.number is not None and crl.number < before.number:
        raise _refused("crl-older", f"The CRL has the number {crl.number}, and {before.number} is known.")
    if before.this_update is not None and crl.this_update < before.this_update:
        known = f"{before.this_update:%Y-%m-%d %H:%M:%S}"
        raise _refused("crl-older", f"The CRL is of {crl.this_update:%Y-%m-%d %H:%M:%S}, and one of {known} is known.")


def _those_named(crl: Crl, signers: Signers, now: datetime) -> list[CertificateInfo]:
    """The certificates with the name of the CRL's issuer. Source: RFC 5280 section 6.3.3 (b) and (f)."""
    named = [each for each in signers.ca if each.subject.key == crl.issuer.key]
    if named:
        return named
    named = [each for each in signers.others if each.subject.key == crl.issuer.key]
    if not named:
        raise _refused("crl-issuer-wrong", f"The CRL is of {crl.issuer.rfc4514}, not of this CA.")
    if not crl.scope.indirect:
        raise _refused("crl-issuer-wrong", f"The CRL of {crl.issuer.rfc4514} is about certificates of its own only.")
    valid = [each for each in named if each.not_before <= now <= each.not_after]
    if not valid:
        raise _refused("crl-issuer-wrong", f"The certificate of {crl.issuer.rfc4514} is not valid now.")
    return valid


def _check_signature(crl: Crl, named: Sequence[CertificateInfo]) -> None:
    fitting = [each for each in named if not crl.authority_key or not each.ski or each.ski == crl.authority_key]
    if not fitting:
        raise _refused("crl-issuer-wrong", "The CRL is signed with a key of the CA that is not configured.")
    allowed = [each for each in fitting if each.key_usage is None or "cRLSign" in each.key_usage]
    if not allowed:
        raise _refused("crl-issuer-wrong", "The certificate of the CA may not sign CRLs.")
    if not any(crl.is_signed_by(each.spki) for each in {each.spki: each for each in allowed}.values()):
        raise _refused("crl-signature-invalid", "The CRL is not signed by the CA, or with an algorithm not trusted.")


def _refused(code: str, detail: str, remedy: str = "What is known already stays until it ends.") -> IntaglioError:
    return Refused(detail, code=code, remedy=remedy)


def _scope_unfit(why: str, remedy: str) -> IntaglioError:
    return Refused(f"The CRL is not used: {why}.", code="crl-scope-unfit", remedy=remedy)
