"""What must fit together in a status authority before it is kept: every problem at once, errors and warnings.

An error keeps the configuration from being saved; a warning says what will not work as one might think.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import IntaglioError
from intaglio.core.spans import format_span
from intaglio.validation.authorities.values import MOST_ISSUERS, AuthoritySpec, CrlOptions, GatewayOptions
from intaglio.validation.status_profiles import PROFILES, StatusProfile
from intaglio.x509.certificates import CertificateInfo, read_certificates

#: Longest wait between two looks at a source when requests are held until the source was looked at again.
LONGEST_RETRIED_WAIT = timedelta(seconds=15)
_SOON = timedelta(days=30)


@dataclass(frozen=True)
class Problem:
    """``target`` is the member that is wrong, ``code`` stable; an error keeps the configuration from being saved."""

    level: Literal["error", "warning"]
    code: str
    target: str
    message: str


@dataclass(frozen=True)
class Surroundings:
    """What a configuration is compared with.

    ``names`` of other authorities; ``issuers`` of other enabled ones by the SHA-256 of subject and public key;
    ``directories`` and ``credentials`` (with their ends) that may be named; ``snapshot`` of our own CAs, of which those
    of the ``organizations`` (names by id) may be named, as may their outbound credentials.
    """

    snapshot: Snapshot
    names: Collection[str]
    issuers: Mapping[tuple[bytes, bytes], str]
    directories: Collection[str]
    credentials: Mapping[UUID, datetime]
    organizations: Mapping[UUID, str]
    now: datetime


def problems(spec: AuthoritySpec, around: Surroundings) -> list[Problem]:
    """Everything that is wrong with a configuration, errors first."""
    found = [*_name(spec, around), *_profile(spec), *_source(spec, around), *_issuers(spec, around), *_responder(spec)]
    return sorted(found, key=lambda problem: problem.level != "error")


def native_ca(spec: AuthoritySpec, snapshot: Snapshot) -> CaView | None:
    """The CA of ours that a native authority is about; None when there is none of this name, or it has no keys."""
    if spec.source != "native" or not spec.ca:
        return None
    try:
        ca = snapshot.ca(spec.ca)
    except IntaglioError:
        return None
    return ca if ca.state != "deleted" and ca.kind != "external-root" else None


def _name(spec: AuthoritySpec, around: Surroundings) -> Iterator[Problem]:
    if spec.name in around.names:
        yield _error("already-exists", "name", f'There is a status authority "{spec.name}" already.')


def _profile(spec: AuthoritySpec) -> Iterator[Problem]:
    profile = PROFILES.get(spec.profile)
    if profile is None:
        choices = ", ".join(PROFILES)
        yield _error("profile-unknown", "profile", f'There is no status profile "{spec.profile[:60]}"; use {choices}.')
        return
    kind = "crl" if spec.source == "crl" else "events"
    if profile.knowledge != kind:
        fitting = ", ".join(each.id for each in PROFILES.values() if each.knowledge == kind)
        yield _error(
            "profile-unfit",
            "profile",
            f'"{profile.id}" is not for authorities whose source is "{spec.source}"; use {fitting}.',
        )
    elif isinstance(spec.options, CrlOptions):
        yield from _serial_list(profile, spec.options)


def _serial_list(profile: StatusProfile, options: CrlOptions) -> Iterator[Problem]:
    if profile.serial_list and not options.serial_list:
        yield _error("serial-list-missing", "crl.serial_list", f'"{profile.id}" needs a list of serial numbers.')
    if options.serial_list and not profile.serial_list:
        yield _error(
            "serial-list-unused", "crl.serial_list", f'"{profile.id}" does not use a list of serial numbers; remove it.'
        )
    if options.serial_list.startswith("http://"):
        yield _warning(
            "serial-list-unprotected",
            "crl.serial_list",
            "The list is neither signed nor read over https: whoever can change it on the way decides what is good.",
        )


def _source(spec: AuthoritySpec, around: Surroundings) -> Iterator[Problem]:
    if spec.options is None:
        yield _error("source-missing", spec.source, f'The source "{spec.source}" needs its options.')
    given = {"gateway": spec.gateway is not None, "crl": spec.crl is not None, "native": spec.ca is not None}
    for name, is_given in given.items():
        if is_given and name != spec.source:
            member = "ca" if name == "native" else name
            yield _warning("option-ignored", member, f'"{member}" means nothing with the source "{spec.source}".')
    ours = native_ca(spec, around.snapshot)
    if spec.source == "native" and (ours is None or ours.organization_id not in around.organizations):
        yield _error("ca-unknown", "ca", f'There is no CA "{(spec.ca or "")[:60]}" here.')
    if spec.source == "gateway" and spec.gateway is not None:
        yield from _gateway(spec.gateway, around)
    if spec.source == "crl" and spec.crl is not None:
        yield from _crl(spec.crl, around)


def _gateway(options: GatewayOptions, around: Surroundings) -> Iterator[Problem]:
    if not options.server_ca:
        yield _error("server-ca-missing", "gateway.server_ca", "Give the CA of the gateway's server certificate.")
    if options.stale_after <= options.wait_to_pull + options.timeout:
        yield _error(
            "stale-too-early", "gateway.stale_after", "It must be longer than wait_to_pull and timeout together."
        )
    if options.outbound:  # it is looked after where it is kept
        if options.outbound.partition("~")[0] not in around.organizations.values():
            yield _error("credential-unknown", "gateway.outbound", "There is no such outbound credential.")
        return
    ends = around.credentials.get(options.credential) if options.credential else None
    if options.credential and ends is None:
        yield _error("credential-unknown", "gateway.credential", "There is no client credential with this id.")
    elif not around.credentials:
        yield _warning("credential-missing", "gateway.credential", "No client credential has been imported yet.")
    else:
        ends = ends or max(around.credentials.values())
        if ends <= around.now + _SOON:
            word = "has expired" if ends <= around.now else f"ends on {ends:%Y-%m-%d}"
            yield _warning("credential-ends", "gateway.credential", f"The client credential {word}.")


def _crl(options: CrlOptions, around: Surroundings) -> Iterator[Problem]:
    for position, part in enumerate(options.crls):
        if part.directory and part.directory not in around.directories:
            yield _error(
                "directory-unknown",
                f"crl.crls.{position}.directory",
                f'There is no directory "{part.directory[:60]}"; define it first.',
            )
    for signer in options.signers:
        if signer.key_usage is not None and "cRLSign" not in signer.key_usage:
            yield _warning("no-crl-sign", "crl.crl_issuers", f"{signer.subject.rfc4514} may not sign CRLs.")
    places = [(part.url or (part.directory, part.entry, part.attribute)) for part in options.crls]
    if len(set(places)) != len(places):
        yield _error("crl-twice", "crl.crls", "Two of the CRLs are at the same place.")


def _issuers(spec: AuthoritySpec, around: Surroundings) -> Iterator[Problem]:
    if spec.source == "native":
        if spec.issuers:
            yield _warning("option-ignored", "issuers", "Certificates of our own CAs need not be given.")
        return
    found = read_certificates(spec.issuers) if spec.issuers else []
    if not 0 < len(found) <= MOST_ISSUERS:
        yield _error("issuer-missing", "issuers", f"Give the certificates of the CA, 1 to {MOST_ISSUERS} of them.")
        return
    ours = {(ca.subject.der, key.spki): ca for ca in around.snapshot.cas.values() for key in ca.keys.values()}
    for certificate in found:
        yield from _issuer(certificate, around, ours)
    if len({each.subject.key for each in found}) > 1:
        yield _error("issuers-differ", "issuers", "All certificates must be of one CA: their subjects differ.")
    if len({each.fingerprint for each in found}) != len(found):
        yield _warning("issuer-twice", "issuers", "A certificate is given twice.")


def _issuer(
    certificate: CertificateInfo, around: Surroundings, ours: Mapping[tuple[bytes, bytes], CaView]
) -> Iterator[Problem]:
    subject = certificate.subject.rfc4514
    if not certificate.is_ca:
        yield _error("not-a-ca", "issuers", f"{subject} is not the certificate of a CA.")
    elif certificate.key_usage is not None and "cRLSign" not in certificate.key_usage:
        yield _warning("no-crl-sign", "issuers", f"{subject} may not sign CRLs.")
    if certificate.not_after <= around.now:
        yield _warning("issuer-expired", "issuers", f"{subject} expired on {certificate.not_after:%Y-%m-%d}.")
    if (other := around.issuers.get((certificate.subject.der, certificate.spki))) is not None:
        yield _error("issuer-taken", "issuers", f'The status of {subject} is given out by "{other}" already.')
    if (ca := ours.get((certificate.subject.der, certificate.spki))) is not None:
        named = f"our CA {ca.full_id}" if ca.organization_id in around.organizations else "one of our CAs"
        yield _error("issuer-is-ours", "issuers", f'{subject} is {named}: use the source "native".')


def _responder(spec: AuthoritySpec) -> Iterator[Problem]:
    if not spec.responder.retry_unknown:
        return
    profile, options = PROFILES.get(spec.profile), spec.options
    if profile is not None and profile.unknown != "revoked":
        yield _error(
            "retry-unfit", "responder.retry_unknown", f'"{profile.id}" does not call unknown certificates revoked.'
        )
    if isinstance(options, GatewayOptions | CrlOptions) and options.wait_to_pull > LONGEST_RETRIED_WAIT:
        yield _error(
            "retry-wait-too-long",
            f"{spec.source}.wait_to_pull",
            f"With retry_unknown at most {format_span(LONGEST_RETRIED_WAIT)}, not {format_span(options.wait_to_pull)}.",
        )


def errors(found: Sequence[Problem]) -> list[Problem]:
    """Those that keep a configuration from being saved."""
    return [problem for problem in found if problem.level == "error"]


def _error(code: str, target: str, message: str) -> Problem:
    return Problem("error", code, target, message)


def _warning(code: str, target: str, message: str) -> Problem:
    return Problem("warning", code, target, message)
