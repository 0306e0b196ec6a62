"""Verifies a certificate step by step, and says at each what was found.

A chain is looked for from the certificate up to one of the trusted certificates; the one that gets furthest is told.
Nothing is fetched: CRLs and OCSP answers are given. Source: RFC 5280 section 6.1, RFC 9525 section 6.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import status as revocation
from intaglio.mtls.toolkit import strength
from intaglio.mtls.toolkit.name_constraints import Constraints
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.host_names import is_dns_name

Purpose = Literal["client", "server", "any"]
MAX_CERTIFICATES = 200
_DEEPEST = 10
_MOST_CHAINS = 100
_MOST_SIGNATURES = 2_000  # looked at while chains are searched; cross-certified CAs multiply them
_ANY_USAGE = "2.5.29.37.0"
_USAGES = {"client": "1.3.6.1.5.5.7.3.2", "server": "1.3.6.1.5.5.7.3.1"}
_UNDERSTOOD = frozenset(
    {
        ext.BASIC_CONSTRAINTS, ext.KEY_USAGE, ext.EXTENDED_KEY_USAGE, ext.SUBJECT_ALT_NAME, ext.NAME_CONSTRAINTS,
        ext.CERTIFICATE_POLICIES, ext.SUBJECT_KEY_IDENTIFIER, ext.AUTHORITY_KEY_IDENTIFIER, ext.CRL_DISTRIBUTION_POINTS,
        ext.ISSUER_ALT_NAME, "1.3.6.1.5.5.7.1.1",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One check: its name, whether it holds (None: it was not asked for), and a sentence saying why."""

    name: str
    holds: bool | None
    why: str


@dataclass(frozen=True)
class Verdict:
    """What came of a verification; ``chain`` is leaf first and ends with the trust anchor when one was found."""

    valid: bool
    steps: tuple[Step, ...]
    chain: tuple[CertificateInfo, ...]

    @property
    def reason(self) -> str:
        """The first step that does not hold, in words; empty for a valid certificate."""
        return next((step.why for step in self.steps if step.holds is False), "")


@dataclass(frozen=True)
class Question:
    """What is asked of a certificate.

    ``host`` is the DNS name or address a server was called by; ``crls`` and ``ocsp`` are DER; ``require_status`` makes
    an unknown revocation status a failure.
    """

    at: datetime
    purpose: Purpose = "any"
    host: str | None = None
    crls: Sequence[bytes] = ()
    ocsp: Sequence[bytes] = ()
    require_status: bool = False


def verify(
    leaf: CertificateInfo, others: Sequence[CertificateInfo], trusted: Sequence[CertificateInfo], asked: Question
) -> Verdict:
    """Judge ``leaf`` with the help of the untrusted ``others`` against the ``trusted`` anchors.

    Raises InvalidInput (``too-many-certificates``, ``status-unreadable``).
    """
    if len(others) + len(trusted) > MAX_CERTIFICATES:
        raise InvalidInput(f"More than {MAX_CERTIFICATES} certificates were given.", code="too-many-certificates")
    answers = revocation.read(asked.crls, asked.ocsp)
    best: tuple[CertificateInfo, ...] | None = None
    best_steps: list[Step] = []
    for chain in _chains(leaf, others, trusted):
        steps = list(_judge(chain, asked, answers))
        if all(step.holds is not False for step in steps):
            return Verdict(True, tuple(steps), chain)
        if best is None or _progress(steps) > _progress(best_steps):
            best, best_steps = chain, steps
    if best is None:
        return Verdict(False, (_no_chain(leaf, others, trusted), *_judge_leaf(leaf, asked)), (leaf,))
    return Verdict(False, tuple(best_steps), best)


def _progress(steps: Sequence[Step]) -> int:
    return next((i for i, step in enumerate(steps) if step.holds is False), len(steps))


# ---- chains ----------------------------------------------------------------------------------------------------------


def _chains(
    leaf: CertificateInfo, others: Sequence[CertificateInfo], trusted: Sequence[CertificateInfo]
) -> Iterator[tuple[CertificateInfo, ...]]:
    """Chains whose names and signatures fit, from the leaf to a trusted certificate, at most 100."""
    anchors = {each.der for each in trusted}
    pool = list({each.der: each for each in (*trusted, *others)}.values())
    waiting: list[tuple[CertificateInfo, ...]] = [(leaf,)]
    found = checked = 0
    while waiting and found < _MOST_CHAINS and checked < _MOST_SIGNATURES:
        chain = waiting.pop(0)
        if chain[-1].der in anchors:
            found += 1
            yield chain
            continue
        if len(chain) > _DEEPEST:
            continue
        seen = {each.der for each in chain}
        last = chain[-1]
        for issuer in pool:
            if issuer.der in seen or not _names_fit(issuer, last):
                continue
            checked += 1
            if last.verify_signed_by(issuer.spki):
                waiting.append((*chain, issuer))


def _names_fit(issuer: CertificateInfo, subject: CertificateInfo) -> bool:
    if issuer.subject.key != subject.issuer.key:
        return False
    return not (issuer.ski and subject.aki) or issuer.ski == subject.aki


def _no_chain(
    leaf: CertificateInfo, others: Sequence[CertificateInfo], trusted: Sequence[CertificateInfo]
) -> Step:
    if leaf.is_self_issued and leaf.verify_signed_by(leaf.spki):
        return Step("chain", False, "It is self-signed, and it is not among the trusted certificates (self_signed).")
    candidates = [each for each in (*others, *trusted) if each.subject.key == leaf.issuer.key]
    if candidates and not any(leaf.verify_signed_by(each.spki) for each in candidates):
        return Step("chain", False, f'The signature is not valid under the key of "{leaf.issuer}" (bad_signature).')
    missing = _furthest(leaf, others).issuer
    return Step("chain", False, f'No certificate of the issuer "{missing}" is trusted or given (unknown_ca).')


def _furthest(leaf: CertificateInfo, others: Sequence[CertificateInfo]) -> CertificateInfo:
    current, seen = leaf, {leaf.der}
    for _ in range(_DEEPEST):
        following = next(
            (e for e in others if e.der not in seen and _names_fit(e, current) and current.verify_signed_by(e.spki)),
            None,
        )
        if following is None:
            break
        current = following
        seen.add(current.der)
    return current


# ---- steps -----------------------------------------------------------------------------------------------------------


def _judge(
    chain: tuple[CertificateInfo, ...], asked: Question, answers: revocation.Answers
) -> Iterator[Step]:
    names = " <- ".join(str(each.subject) or "(empty subject)" for each in chain)
    yield Step("chain", True, f"The signatures lead to a trusted certificate: {names}.")
    yield _validity(chain, asked.at)
    yield _issuers_may_issue(chain)
    yield _constraints(chain)
    yield _critical(chain)
    yield _algorithms(chain)
    yield _purpose(chain, asked.purpose)
    yield _host(chain[0], asked.host)
    yield _status(chain, asked, answers)


def _judge_leaf(leaf: CertificateInfo, asked: Question) -> Iterator[Step]:
    """What can be said without a chain."""
    yield _validity((leaf,), asked.at)
    yield _algorithms((leaf,))
    yield _purpose((leaf,), asked.purpose)
    yield _host(leaf, asked.host)


def _validity(chain: Sequence[CertificateInfo], at: datetime) -> Step:
    for each in chain:
        if at > each.not_after:
            when = f"{each.not_after:%Y-%m-%d %H:%M}"
            return Step("validity", False, f'"{each.subject}" expired on {when} UTC (expired).')
        if at < each.not_before:
            when = f"{each.not_before:%Y-%m-%d %H:%M}"
            return Step("validity", False, f'"{each.subject}" is not valid before {when} UTC (not_yet_valid).')
    return Step("validity", True, f"Every certificate is valid on {at:%Y-%m-%d %H:%M} UTC.")


def _issuers_may_issue(chain: Sequence[CertificateInfo]) -> Step:
    below = 0  # certificates between this issuer and the leaf that are not self-issued
    for each in chain[1:]:
        if not each.is_ca:
            return Step("issuers", False, f'"{each.subject}" is not a CA.')
        if each.key_usage is not None and "keyCertSign" not in each.key_usage:
            return Step("issuers", False, f'"{each.subject}" may not sign certificates.')
        if each.path_len is not None and below > each.path_len:
            why = f'"{each.subject}" allows only {each.path_len} CAs below it; there are {below}.'
            return Step("issuers", False, why)
        below += not each.is_self_issued
    return Step("issuers", True, "Every issuer is a CA that may issue what is below it.")


def _constraints(chain: Sequence[CertificateInfo]) -> Step:
    for position, each in enumerate(chain[1:], start=1):
        try:
            constraints = Constraints.of(each)
        except InvalidInput:
            return Step("names", False, f'The name constraints of "{each.subject}" cannot be read.')
        if constraints is None:
            continue
        for below, certificate in enumerate(chain[:position]):
            if below and certificate.is_self_issued:
                continue
            if broken := constraints.broken_by(certificate):
                return Step("names", False, f'By the name constraints of "{each.subject}", {broken}.')
    return Step("names", True, "No name constraint is broken.")


def _critical(chain: Sequence[CertificateInfo]) -> Step:
    for each in chain:
        for extension in each.extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD:
                why = f'"{each.subject}" has the unknown critical extension {extension.oid}.'
                return Step("extensions", False, why)
    return Step("extensions", True, "Every critical extension is understood.")


def _algorithms(chain: Sequence[CertificateInfo]) -> Step:
    for each in chain:
        if each.key_algorithm is None:
            why = f'The key of "{each.subject}" is weak or of an unknown algorithm (weak_key).'
            return Step("strength", False, why)
    for each in chain if len(chain) == 1 else chain[:-1]:  # the signature of an anchor proves nothing
        if problem := strength.signature(each.signature_oid)[1]:
            return Step("strength", False, f'"{each.subject}": {problem} (weak_key)')
    return Step("strength", True, "Keys and signatures are strong enough.")


def _purpose(chain: Sequence[CertificateInfo], purpose: Purpose) -> Step:
    if purpose == "any":
        return Step("purpose", None, "No purpose was asked for.")
    wanted = _USAGES[purpose]
    for each in chain:
        if each.eku is not None and wanted not in each.eku and _ANY_USAGE not in each.eku:
            return Step("purpose", False, f'"{each.subject}" is not meant for TLS {purpose}s (bad_purpose).')
    usage = chain[0].key_usage
    if usage is not None and not usage & {"digitalSignature", "keyAgreement"}:
        return Step("purpose", False, f'The key of "{chain[0].subject}" may not sign handshakes (bad_purpose).')
    return Step("purpose", True, f"It may be used by a TLS {purpose}.")


def _host(leaf: CertificateInfo, host: str | None) -> Step:
    if host is None:
        return Step("host", None, "No host name was asked for.")
    entries = leaf.san.entries if leaf.san else ()
    wanted = _address(host)
    if wanted is not None:
        found = [e.text for e in entries if e.type == "iPAddress"]
        holds = any(_address(text) == wanted for text in found)
    else:
        found = [e.text for e in entries if e.type == "dNSName"]
        holds = is_dns_name(host) and any(_dns_matches(text, host) for text in found)
    listed = ", ".join(found[:5]) or "none of its kind"
    return Step("host", holds, f"{host} is {'one' if holds else 'not one'} of its names: {listed}.")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _dns_matches(pattern: str, host: str) -> bool:
    pattern, host = pattern.lower(), host.lower().removesuffix(".")
    if pattern.startswith("*."):
        first, dot, rest = host.partition(".")
        return bool(first and dot) and rest == pattern[2:]
    return pattern == host


def _status(chain: Sequence[CertificateInfo], asked: Question, answers: revocation.Answers) -> Step:
    if not answers and not asked.require_status:
        return Step("status", None, "Whether it was revoked was not looked at: no CRL or OCSP answer was given.")
    unknown = []
    for certificate, issuer in itertools.pairwise(chain):
        found = answers.of(certificate, issuer, asked.at)
        if found.revoked:
            return Step("status", False, f'"{certificate.subject}" {found.why} (revoked).')
        if not found.known:
            unknown.append(f'"{certificate.subject}": {found.why}')
    if unknown:
        text = f"The status is unknown: {'; '.join(unknown)}"
        return Step("status", False if asked.require_status else None, f"{text} (status_unavailable).")
    return Step("status", True, "No certificate of the chain is revoked.")
