"""Profile + issuer -> CompiledProfile -> PreparedCertificate: the pipeline, step by step."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from intaglio.asn1 import der
from intaglio.asn1.algorithms import key_identifier
from intaglio.core.errors import IntaglioError
from intaglio.profiles import vocabulary
from intaglio.profiles.engine import extensions as requested
from intaglio.profiles.engine import names, purposes
from intaglio.profiles.engine.keys import check_key
from intaglio.profiles.engine.refusals import invalid, refused
from intaglio.profiles.engine.validity import validity_period
from intaglio.profiles.engine.values import LINTED, IssuanceInput, Issuer, PreparedCertificate
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import extensions as x509
from intaglio.x509.certificates import assemble_tbs
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.lint import lint_certificate

#: Faults that only hurt the requester who asked for them: a purpose that the profile's key usage cannot serve makes a
#: certificate that clients refuse for that purpose (RFC 5280 section 4.2.1.12), and a warning says so.
_REQUESTERS_OWN: Final = frozenset({"usage-inconsistent"})
_NOTHING_REQUESTED: Final = requested.Choice()


def compile_profile(profile: CertificateProfile, issuer: Issuer) -> CompiledProfile:
    """Everything about certificates of ``profile`` from ``issuer`` that does not depend on the request."""
    return CompiledProfile(profile, issuer)


class CompiledProfile:
    """A profile bound to an issuer, its unchanging extensions encoded. Immutable and safe to share."""

    def __init__(self, profile: CertificateProfile, issuer: Issuer) -> None:
        self.profile = profile
        self.issuer = issuer
        self._signature_identifier = issuer.algorithm.signature_identifier
        self._authority = _authority_extensions(profile, issuer)
        self._publication = _publication_extensions(profile, issuer)
        self._usage = _usage_extension(profile.key_usage)
        self._purposes = _purposes_extension(profile.default_purpose_oids, profile.extended_key_usage_critical)
        self._fixed = self._usage + self._purposes + self._publication
        self._needs_names_check = _concerns_names(profile.default_purpose_oids)

    def prepare(self, request: IssuanceInput, *, serial: bytes, now: datetime) -> PreparedCertificate:
        """Decide about ``request`` and make the certificate, all but its signature.

        ``serial`` are the octets of the serial number, ``now`` is aware. Every refusal is an IntaglioError with a
        stable code and the step in ``extra["step"]``. What was changed or ignored is said in ``warnings``.
        """
        try:
            return self._prepared(request, serial, now)
        except IntaglioError as error:
            # What the floors below refuse, such as more names than a certificate may hold, knows no steps.
            error.extra.setdefault("step", "request")
            raise

    def _prepared(self, request: IssuanceInput, serial: bytes, now: datetime) -> PreparedCertificate:
        profile, issuer = self.profile, self.issuer
        warnings: list[str] = []
        _check_way_in(profile, request)
        check_key(profile, request.key_algorithm, warnings)
        key_id = key_identifier(request.spki)
        if profile.kind == "root":
            _check_own_issuer(issuer, request, key_id)
        names.check_subject(profile, issuer, request)
        san = names.san_of(profile, request, warnings)
        choice = self._choose(request, warnings)
        usages = profile.key_usage if choice.key_usage is None else choice.key_usage
        purposes.check_key_usage(usages, request.key_algorithm)
        if choice.purposes is not None or self._needs_names_check:
            granted = profile.default_purpose_oids if choice.purposes is None else choice.purposes
            names.check_san_for_purposes(profile, san, granted, warnings)
        not_before, not_after = validity_period(
            profile, issuer, request.validity, now, shorten_only=request.shorten_only, clamp=request.clamp_validity
        )
        if profile.is_ca:
            _check_path_length(profile, issuer)
        extensions = self._extensions(request, key_id, san, choice, not_before, not_after)
        tbs = assemble_tbs(
            serial=serial,
            signature_identifier=self._signature_identifier,
            issuer_der=issuer.subject_der,
            not_before=not_before,
            not_after=not_after,
            subject_der=request.subject.der,
            spki=request.spki,
            extensions=extensions,
        )
        _lint(tbs, profile, warnings)
        return PreparedCertificate(
            LINTED,
            tbs=tbs,
            serial=serial,
            not_before=not_before,
            not_after=not_after,
            subject=request.subject,
            san=san,
            warnings=tuple(warnings),
            signature_identifier=self._signature_identifier,
        )

    def _choose(self, request: IssuanceInput, warnings: list[str]) -> requested.Choice:
        if not request.extensions and not request.explicit_extensions and request.key_usage is None:
            return _NOTHING_REQUESTED
        return requested.choose(self.profile, request, warnings)

    def _extensions(
        self,
        request: IssuanceInput,
        key_id: bytes,
        san: GeneralNames | None,
        choice: requested.Choice,
        not_before: datetime,
        not_after: datetime,
    ) -> bytes:
        parts = [self._authority, _SUBJECT_KEY_IDENTIFIER, key_id]
        if choice.key_usage is None and choice.purposes is None:
            parts.append(self._fixed)
        else:
            parts.append(self._usage if choice.key_usage is None else _usage_extension(choice.key_usage))
            granted = choice.purposes
            critical = choice.purposes_critical or self.profile.extended_key_usage_critical
            parts.append(self._purposes if granted is None else _purposes_extension(granted, critical))
            parts.append(self._publication)
        if san is not None:
            parts.append(x509.extension(x509.SUBJECT_ALT_NAME, request.subject.is_empty, san.der))
        if request.private_key_usage_percentage is not None:
            parts.append(_private_key_usage_period(request.private_key_usage_percentage, not_before, not_after))
        parts.extend(x509.extension(oid, False, value) for oid, value in choice.copied.items())
        parts.extend(x509.extension(each.oid, each.critical, each.value) for each in request.stated)
        return b"".join(parts)


# ---- steps -----------------------------------------------------------------------------------------------------------


def _check_way_in(profile: CertificateProfile, request: IssuanceInput) -> None:
    if request.channel not in profile.channels:
        raise refused(
            "channel",
            "channel-not-allowed",
            f'Profile "{profile.id}" is not offered through {request.channel}.',
            f"It is offered through {', '.join(profile.channels)}.",
            target="profileId",
        )
    if request.mode not in profile.issuance_modes:
        raise refused(
            "mode",
            "mode-not-offered",
            f'Profile "{profile.id}" does not generate keys for its subjects.'
            if request.mode == "p12"
            else f'Profile "{profile.id}" does not take certificate requests.',
            f"It offers: {', '.join(profile.issuance_modes)}.",
            target="requiredFormat",
        )


def _check_own_issuer(issuer: Issuer, request: IssuanceInput, key_id: bytes) -> None:
    if request.subject.der != issuer.subject_der or key_id != issuer.key_id:
        raise invalid(
            "subject",
            "root-not-self-signed",
            "A root certificate has its own subject as issuer and is signed with its own key.",
            "Use the issuer made from the root's own name and key.",
        )


def _check_path_length(profile: CertificateProfile, issuer: Issuer) -> None:
    """Refuse a CA certificate below which no valid chain of the declared length could be built.

    Source: RFC 5280 sections 4.2.1.9 and 6.1.4 (l), (m).
    """
    if profile.kind == "root" or issuer.path_budget is None:
        return
    declared = profile.basic_constraints.path_length
    needed = 1 + (declared or 0)
    if issuer.path_budget < needed:
        raise refused(
            "path-length",
            "path-length-exceeded",
            f'Below CA "{issuer.name}" there may be {issuer.path_budget} further CA certificate(s); '
            f'profile "{profile.id}" needs room for {needed}.',
            "Issue it from a root, or from a CA with a larger path length.",
            target="profileId",
        )


def _lint(tbs: bytes, profile: CertificateProfile, warnings: list[str]) -> None:
    findings = lint_certificate(tbs)
    if not findings:
        return
    errors = [finding for finding in findings if finding.severity == "error" and finding.code not in _REQUESTERS_OWN]
    if errors:
        error = refused(
            "lint",
            "lint-failed",
            f"The certificate would break a standard: {'; '.join(finding.text for finding in errors[:5])}.",
            f'Correct the request, or use another profile than "{profile.id}".',
        )
        error.extra["findings"] = [finding.code for finding in errors]
        raise error
    warnings.extend(finding.text for finding in findings)


# ---- encoding --------------------------------------------------------------------------------------------------------

_SUBJECT_KEY_IDENTIFIER: Final = x509.extension(
    x509.SUBJECT_KEY_IDENTIFIER, False, x509.subject_key_identifier(bytes(20))
)[:-20]


def _authority_extensions(profile: CertificateProfile, issuer: Issuer) -> bytes:
    constraints = x509.basic_constraints(profile.basic_constraints.ca, profile.basic_constraints.path_length)
    encoded = x509.extension(x509.BASIC_CONSTRAINTS, True, constraints)
    if profile.kind == "root":
        return encoded
    identifier = x509.extension(x509.AUTHORITY_KEY_IDENTIFIER, False, x509.authority_key_identifier(issuer.key_id))
    return identifier + encoded if profile.has_basic_constraints else identifier


def _publication_extensions(profile: CertificateProfile, issuer: Issuer) -> bytes:
    """Policies and where to find status and issuer. A CA that publishes no CRLs gets no distribution points."""
    encoded: list[tuple[str, bytes]] = []
    if profile.certificate_policies:
        encoded.append((x509.CERTIFICATE_POLICIES, x509.certificate_policies(profile.certificate_policies)))
    if profile.cdp == "always" and issuer.crl_urls:
        encoded.append((x509.CRL_DISTRIBUTION_POINTS, x509.crl_distribution_points(issuer.crl_urls)))
        if issuer.delta_crl_urls:
            encoded.append((x509.FRESHEST_CRL, x509.freshest_crl(issuer.delta_crl_urls)))
    if profile.aia == "always" or (profile.aia == "if-ocsp-enabled" and issuer.ocsp_enabled):
        ocsp_urls = issuer.ocsp_urls if issuer.ocsp_enabled else ()
        if ocsp_urls or issuer.issuer_urls:
            access = x509.authority_information_access(ocsp_urls, issuer.issuer_urls)
            encoded.append((x509.AUTHORITY_INFORMATION_ACCESS, access))
    if profile.ocsp_no_check:
        encoded.append((x509.OCSP_NO_CHECK, x509.ocsp_no_check()))
    return b"".join(x509.extension(oid, False, value) for oid, value in encoded)


def _usage_extension(usages: tuple[str, ...]) -> bytes:
    return x509.extension(x509.KEY_USAGE, True, x509.key_usage(usages))


def _purposes_extension(oids: tuple[str, ...], critical: bool) -> bytes:
    return x509.extension(x509.EXTENDED_KEY_USAGE, critical, x509.extended_key_usage(oids)) if oids else b""


def _private_key_usage_period(percentage: int, not_before: datetime, not_after: datetime) -> bytes:
    """When the private key may be used, as a share of the certificate's life. Source: RFC 3280 section 4.2.1.4."""
    if not 1 <= percentage <= 100:
        raise invalid(
            "validity",
            "private-key-usage-percentage",
            f"A private key usage period of {percentage} % is not possible.",
            "Ask for 1 to 100.",
            target="privateKeyUsagePercentage",
        )
    seconds = int((not_after - not_before).total_seconds()) * percentage // 100
    ends = (der.generalized_time(not_before), der.generalized_time(not_before + timedelta(seconds=seconds)))
    implicit = [der.tlv(0x80 | number, der.read_tlv(time).content) for number, time in enumerate(ends)]
    return x509.extension(vocabulary.PRIVATE_KEY_USAGE_PERIOD, False, der.sequence(*implicit))


def _concerns_names(oids: tuple[str, ...]) -> bool:
    return x509.SERVER_AUTH in oids or x509.EMAIL_PROTECTION in oids
