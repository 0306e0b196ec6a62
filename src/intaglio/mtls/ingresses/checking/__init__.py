"""What in a configuration, whoever made it, does not verify clients fully.

Reads text alone: what a program would do with files that are included elsewhere is not known here, so the whole
configuration is to be given (``nginx -T``, ``haproxy -f`` in one file).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from intaglio.core.errors import InvalidInput, TooLarge
from intaglio.mtls.ingresses.checking import alb, apache, envoy, haproxy, kubernetes, nginx
from intaglio.mtls.ingresses.checking.findings import Checked, Finding
from intaglio.x509.certificates import CertificateInfo

__all__ = ["CHECKERS", "Checked", "Finding", "check", "compare_bundle"]

LARGEST: Final = 1_000_000

#: By type of configuration: text to findings.
CHECKERS: Final[Mapping[str, Callable[[str], list[Finding]]]] = {
    "nginx": nginx.check,
    "haproxy": haproxy.check,
    "apache": apache.check,
    "envoy": envoy.check,
    "aws-alb": alb.check,
    "istio": kubernetes.check,
    "linkerd": kubernetes.check,
    "ingress-nginx": kubernetes.check,
}


def check(
    text: str,
    kind: str | None = None,
    *,
    bundle: Sequence[CertificateInfo] | None = None,
    trusted: Iterable[CertificateInfo] | None = None,
) -> Checked:
    """The findings of a configuration of ``kind``, which is found out when it is None, in the order of their lines.

    With ``bundle`` (the CAs the configuration trusts) and ``trusted`` (those that should be) they are compared too.
    Raises TooLarge (``configuration-too-large``), InvalidInput (``configuration-unknown``, ``configuration-invalid``).
    """
    if len(text) > LARGEST:
        raise TooLarge(f"A configuration has at most {LARGEST} characters.", code="configuration-too-large")
    kind = kind or _guessed(text)
    checker = CHECKERS.get(kind)
    if checker is None:
        raise InvalidInput(
            f'Configurations of type "{kind[:40]}" cannot be checked.',
            code="configuration-unknown",
            remedy=f"Name one of: {', '.join(CHECKERS)}.",
            target="type",
        )
    found = checker(text)
    if bundle is not None and trusted is not None:
        found += compare_bundle(bundle, trusted)
    return Checked(kind, tuple(sorted(found, key=lambda finding: (finding.line, finding.rule, finding.detail))))


def compare_bundle(bundle: Iterable[CertificateInfo], trusted: Iterable[CertificateInfo]) -> list[Finding]:
    """Findings about a trust bundle: CAs in it that do not count, and anchors that are missing."""
    expected = {certificate.fingerprint: certificate for certificate in trusted}
    given = {certificate.fingerprint: certificate for certificate in bundle}
    foreign = [
        Finding(
            "wrong-bundle", "error", 0, f"The trust bundle has a CA that does not count here: {ca.subject.rfc4514}.",
            "Use the bundle of the trust domain alone: intaglio mtls bundle export.",
        )
        for fingerprint, ca in given.items() if fingerprint not in expected
    ]  # fmt: skip
    missing = [
        Finding(
            "wrong-bundle", "error", 0, f"The trust bundle lacks {ca.subject.rfc4514}.",
            "Export the bundle again: a CA was added, or replaced.",
        )
        for fingerprint, ca in expected.items() if fingerprint not in given
    ]  # fmt: skip
    return foreign + missing


def _guessed(text: str) -> str:
    """What kind of configuration a text is. Raises InvalidInput (``configuration-unknown``)."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return "aws-alb" if alb.is_one(json.loads(text)) else "envoy"
        except (ValueError, RecursionError):
            pass  # nginx maps and Caddyfiles begin with a brace, too
    for kind, mark in _MARKS:
        if mark.search(text):
            return kind
    raise InvalidInput(
        "It cannot be told what product this configuration is for.",
        code="configuration-unknown",
        remedy=f"Name the type: {', '.join(CHECKERS)}.",
        target="type",
    )


#: None of them may cross lines without a bound: the text is a stranger's, and a search holds up the whole process.
_MARKS = (
    ("envoy", re.compile(r"^[ \t]*static_resources[ \t]*:|envoy\.extensions\.", re.MULTILINE)),
    ("istio", re.compile(r"^apiVersion[ \t]*:", re.MULTILINE)),
    ("apache", re.compile(r"^[ \t]*(?:<VirtualHost|SSLEngine|SSLVerifyClient)\b", re.MULTILINE | re.IGNORECASE)),
    ("haproxy", re.compile(r"^(?:frontend|backend|listen|defaults|global)\b(?!.*[{;])", re.MULTILINE)),
    ("nginx", re.compile(r"\b(?:server|http|location)\b[^;{}]{0,300}\{|\bssl_[a-z_]+\s")),
)
