"""What a presented certificate is worth: chain, validity, purpose, strength. Pure; status and policy come after.

The path is validated by OpenSSL (RFC 5280 section 6: signatures, basic constraints, key usage, path length, name
constraints). What it cannot know is added here: which trust domain a CA of ours belongs to, what strength we ask for,
and the reason in our own words. A certificate is good only if both find nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509 as pyca
from cryptography.exceptions import UnsupportedAlgorithm
from OpenSSL import crypto

from intaglio.asn1 import algorithms
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput
from intaglio.mtls.access.trust import KnownIssuer, Trust
from intaglio.mtls.access.values import Check, ReasonCode
from intaglio.transport.verify_errors import error_name
from intaglio.x509 import extensions as ext
from intaglio.x509 import weak_keys
from intaglio.x509.certificates import CertificateInfo, read_certificate

#: More certificates than this are not looked at.
LONGEST_CHAIN = 10

_REASONS = {
    "DEPTH_ZERO_SELF_SIGNED_CERT": ReasonCode.SELF_SIGNED,
    "CERT_HAS_EXPIRED": ReasonCode.EXPIRED,
    "CERT_NOT_YET_VALID": ReasonCode.NOT_YET_VALID,
    "INVALID_PURPOSE": ReasonCode.BAD_PURPOSE,
    "CERT_REVOKED": ReasonCode.REVOKED,
    # Name constraints are what keeps the CA of one trust domain out of another (RFC 5280 section 4.2.1.10).
    "PERMITTED_VIOLATION": ReasonCode.WRONG_ENVIRONMENT,
    "EXCLUDED_VIOLATION": ReasonCode.WRONG_ENVIRONMENT,
    "EE_KEY_TOO_SMALL": ReasonCode.WEAK_KEY,
    "CA_KEY_TOO_SMALL": ReasonCode.WEAK_KEY,
    "CA_MD_TOO_WEAK": ReasonCode.WEAK_KEY,
    "EC_KEY_EXPLICIT_PARAMS": ReasonCode.WEAK_KEY,
    "CERT_SIGNATURE_FAILURE": ReasonCode.BAD_SIGNATURE,
    "UNABLE_TO_DECRYPT_CERT_SIGNATURE": ReasonCode.BAD_SIGNATURE,
    "UNSUPPORTED_SIGNATURE_ALGORITHM": ReasonCode.BAD_SIGNATURE,
    "SIGNATURE_ALGORITHM_MISMATCH": ReasonCode.BAD_SIGNATURE,
    "SIGNATURE_ALGORITHM_INCONSISTENCY": ReasonCode.BAD_SIGNATURE,
}

#: md2/md5/sha1WithRSA, dsa-with-sha1, ecdsa-with-SHA1, and SHA-1 as OIW calls it.
_BROKEN_SIGNATURES = frozenset(
    {
        *("1.2.840.113549.1.1.2", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10040.4.3"),
        *("1.2.840.10045.4.1", "1.3.14.3.2.29"),
    }
)


def reason_of(verify_error: str) -> ReasonCode:
    """The reason code of an OpenSSL verification error; ``unknown_ca`` when it says that nobody vouches."""
    return _REASONS.get(verify_error, ReasonCode.UNKNOWN_CA)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a certificate is worth at a moment. ``reason`` is None when all checks were passed.

    ``certificate`` is the leaf, None when there was none or it cannot be read; ``issuer`` the key of ours that issued
    it; ``chain`` the verified certificates from the leaf to the anchor, empty when they do not lead to one.
    """

    reason: ReasonCode | None
    detail: str
    checks: tuple[Check, ...]
    certificate: CertificateInfo | None = field(default=None, repr=False)
    issuer: KnownIssuer | None = None
    chain: tuple[CertificateInfo, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Examined:
    """A chain that was judged in everything that time does not change. ``at`` completes the verdict, cheaply."""

    checks: tuple[Check, ...]
    certificate: CertificateInfo | None = field(default=None, repr=False)
    issuer: KnownIssuer | None = None
    chain: tuple[CertificateInfo, ...] = field(default=(), repr=False)

    def at(self, moment: datetime) -> Verdict:
        """The verdict at ``moment``."""
        checks = self.checks
        if self.certificate is not None:
            # Dates in a certificate nobody vouches for mean nothing, so the chain comes first.
            position = _position(checks, "chain") + 1
            dates = _check_dates((self.certificate, *self.chain[1:]), moment)
            checks = (*checks[:position], dates, *checks[position:])
        failed = next((check for check in checks if check.reason is not None), None)
        return Verdict(
            failed.reason if failed else None,
            failed.detail if failed else "",
            checks,
            self.certificate,
            self.issuer,
            self.chain,
        )


def judge_certificate(chain: Sequence[bytes], trust: Trust, at: datetime) -> Verdict:
    """Judge the certificates a client presented (DER, leaf first) by the trust of one domain, at a moment.

    Never raises: what cannot be read is refused with ``bad_signature``.
    """
    return examine(chain, trust).at(at)


def examine(presented: Sequence[bytes], trust: Trust) -> Examined:
    """Judge everything but dates, which does not change while the trust does not."""
    if not presented:
        missing = "No client certificate was presented."
        return Examined((Check("presented", ReasonCode.NO_CERTIFICATE, missing),))
    if len(presented) > LONGEST_CHAIN:
        too_many = f"More than {LONGEST_CHAIN} certificates were presented."
        return Examined((Check("presented"), Check("chain", ReasonCode.UNKNOWN_CA, too_many)))
    try:
        leaf = read_certificate(presented[0])
        loaded = [crypto.X509.from_cryptography(pyca.load_der_x509_certificate(each)) for each in presented]
    except (InvalidInput, ValueError, UnsupportedAlgorithm, crypto.Error) as error:
        # OpenSSL is stricter than we and ``cryptography`` are, and tells its trouble in tuples.
        why = "" if isinstance(error, crypto.Error) else f" {error}"
        unreadable = f"The certificate cannot be read.{why}"
        return Examined((Check("presented"), Check("chain", ReasonCode.BAD_SIGNATURE, unreadable)))
    verified, failure = _verify_chain(leaf, loaded, trust)
    issuer = _issuer(leaf, verified, trust)
    checks = (
        Check("presented"),
        _check_chain(leaf, verified, failure, issuer, trust),
        _check_purpose(leaf),
        _check_strength((leaf, *verified[1:])),
        _check_issuers(verified, trust),
    )
    return Examined(checks, leaf, issuer, verified)


def _position(checks: Sequence[Check], name: str) -> int:
    return next(number for number, check in enumerate(checks) if check.name == name)


# ---- chain -----------------------------------------------------------------------------------------------------------


def _verify_chain(
    leaf: CertificateInfo, loaded: Sequence[crypto.X509], trust: Trust
) -> tuple[tuple[CertificateInfo, ...], str]:
    """The chain OpenSSL found, or the name of what is wrong."""
    if not trust.anchors:
        return (), "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"
    own, *others = loaded
    context = crypto.X509StoreContext(trust.store, own, others)
    try:
        found = context.get_verified_chain()
    except crypto.X509StoreContextError as error:
        return (), error_name(int(error.errors[0]))
    above = [crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in found[1:]]
    return (leaf, *(trust.by_der.get(each) or read_certificate(each) for each in above)), ""


def _issuer(leaf: CertificateInfo, verified: Sequence[CertificateInfo], trust: Trust) -> KnownIssuer | None:
    """The key of ours that signed the leaf, whether it counts here or not."""
    if len(verified) > 1:
        return trust.known.get((verified[1].subject.key, verified[1].spki))
    candidates = trust.by_name.get(leaf.issuer.key, ())
    return next((each for each in candidates if leaf.verify_signed_by(each.certificate.spki)), None)


def _check_chain(
    leaf: CertificateInfo,
    verified: Sequence[CertificateInfo],
    failure: str,
    issuer: KnownIssuer | None,
    trust: Trust,
) -> Check:
    if (foreign := _foreign(verified, issuer, trust)) is not None:
        where = ", ".join(sorted(foreign.domains))
        detail = f'The certificate was issued by "{foreign.ca}" for {where}, not for {trust.domain}.'
        return Check("chain", ReasonCode.WRONG_ENVIRONMENT, detail)
    if not failure:
        return Check("chain")
    reason = reason_of(failure)
    if leaf.is_self_issued:
        reason = ReasonCode.SELF_SIGNED if leaf.verify_signed_by(leaf.spki) else ReasonCode.BAD_SIGNATURE
    elif issuer is None and _claims_issuer_of(leaf, trust):
        reason = ReasonCode.BAD_SIGNATURE
    described = _chain_details(leaf, trust).get(reason) if failure in _NOBODY_VOUCHES else None
    return Check("chain", reason, described or f"The chain is not valid: {failure}.")


_NOBODY_VOUCHES = frozenset(
    {
        *("UNABLE_TO_GET_ISSUER_CERT", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"),
        *("DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "CERT_UNTRUSTED", "CERT_SIGNATURE_FAILURE"),
    }
)


def _foreign(
    verified: Sequence[CertificateInfo], issuer: KnownIssuer | None, trust: Trust
) -> KnownIssuer | None:
    """A CA in the chain that belongs to other trust domains only, even if a root they share vouches for it."""
    above = [trust.known.get((each.subject.key, each.spki)) for each in verified[1:]]
    involved = [issuer, *above]
    return next((each for each in involved if each and each.domains and trust.domain not in each.domains), None)


def _claims_issuer_of(leaf: CertificateInfo, trust: Trust) -> bool:
    """Whether it says that an anchor issued it: by name, and by key identifier when it gives one."""
    return any(
        anchor.subject.key == leaf.issuer.key and (leaf.aki is None or leaf.aki == anchor.ski)
        for anchor in trust.anchors
    )


def _chain_details(leaf: CertificateInfo, trust: Trust) -> dict[ReasonCode, str]:
    return {
        ReasonCode.SELF_SIGNED: "The certificate is signed with its own key; no CA vouches for it.",
        ReasonCode.BAD_SIGNATURE: f'It names "{leaf.issuer}" as its issuer, whose signature it does not carry.',
        ReasonCode.UNKNOWN_CA: f'No CA that counts in {trust.domain} vouches for a certificate of "{leaf.issuer}".',
    }


# ---- the other checks ------------------------------------------------------------------------------------------------


def _check_dates(chain: Sequence[CertificateInfo], at: datetime) -> Check:
    for number, certificate in enumerate(chain):
        what = "The certificate" if number == 0 else f'The certificate of its CA "{certificate.subject}"'
        if at > certificate.not_after:
            return Check("validity", ReasonCode.EXPIRED, f"{what} expired at {rfc3339(certificate.not_after)}.")
        if at < certificate.not_before:
            since = rfc3339(certificate.not_before)
            return Check("validity", ReasonCode.NOT_YET_VALID, f"{what} is not valid before {since}.")
    return Check("validity")


def _check_purpose(leaf: CertificateInfo) -> Check:
    """clientAuth has to be said, and a CA is nobody's client (RFC 5280 sections 4.2.1.3 and 4.2.1.12)."""
    wrong = ""
    if leaf.is_ca:
        wrong = "It is the certificate of a CA."
    elif leaf.eku is None or ext.CLIENT_AUTH not in leaf.eku:
        wrong = "Its extended key usage does not include clientAuth."
    elif leaf.key_usage is not None and "digitalSignature" not in leaf.key_usage:
        wrong = "Its key usage does not include digitalSignature."
    return Check("purpose", ReasonCode.BAD_PURPOSE, wrong) if wrong else Check("purpose")


def _check_strength(certificates: Sequence[CertificateInfo]) -> Check:
    for certificate in certificates:
        try:
            key, _ = algorithms.load_public_key(certificate.spki)
            weak_keys.check_public_key(key)
        except InvalidInput as error:
            return Check("strength", ReasonCode.WEAK_KEY, error.detail)
        # What an anchor carries is nobody's proof of anything.
        if certificate is not certificates[-1] and certificate.signature_oid in _BROKEN_SIGNATURES:
            return Check("strength", ReasonCode.WEAK_KEY, "It is signed with MD5 or SHA-1.")
    return Check("strength")


def _check_issuers(verified: Sequence[CertificateInfo], trust: Trust) -> Check:
    """Whether a CA in the chain was itself revoked or put on hold by the CA above it."""
    for certificate in verified[1:]:
        issuer = trust.known.get((certificate.subject.key, certificate.spki))
        if issuer is not None and issuer.status != "valid":
            return Check("issuers", ReasonCode.REVOKED, f'The certificate of its CA "{issuer.ca}" is {issuer.status}.')
    return Check("issuers")
