"""Syntax of DNS names, e-mail addresses and URIs as they may stand in a certificate, internationalized ones included.

Sources: RFC 1034 section 3.5 and RFC 1123 section 2.1 (host names), RFC 5890 (A-labels), RFC 9525 section 6.3
(wildcards), RFC 5280 section 4.2.1.6 (general names).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import idna

from intaglio.core.errors import InvalidInput

# Underscores are no host name syntax, but Active Directory and Kubernetes put them into names that need certificates.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_LONGEST_DNS_NAME = 253
_LONGEST_URI = 2_048


def check_dns_name(name: str) -> str:
    """``name`` as a dNSName: A-labels, no trailing dot, at most one ``*``, which is the whole leftmost label.

    Raises InvalidInput (``invalid-general-name``) when it is no DNS name (an IP address is none).
    """
    text = _to_a_labels(name.strip().removesuffix("."))
    labels = text.split(".")
    if labels[0] == "*":
        labels = labels[1:]
    well_formed = all(_LABEL.fullmatch(label) for label in labels) and len(text) <= _LONGEST_DNS_NAME
    if not labels or not well_formed:
        raise _invalid("DNS name", name, "Write www.example.com or *.example.com; a wildcard is the whole first label.")
    if labels[-1].isdigit():
        raise _invalid("DNS name", name, "Ask for an iPAddress instead.")
    return text


def is_dns_name(name: str) -> bool:
    """Whether ``name`` can stand in a dNSName as it is."""
    labels = name.split(".")
    if labels[0] == "*":
        del labels[0]
    return bool(labels) and len(name) <= _LONGEST_DNS_NAME and all(map(_LABEL.fullmatch, labels))


def check_email_address(address: str) -> str:
    """``address`` as an rfc822Name, its domain in A-labels. Raises InvalidInput (``invalid-general-name``)."""
    local, at, domain = address.strip().rpartition("@")
    if not at or len(local) > 64 or not _LOCAL_PART.fullmatch(local) or domain.startswith("*"):
        raise _invalid("e-mail address", address, "Write alice@example.com; the part before @ must be ASCII.")
    return f"{local}@{check_dns_name(domain)}"


def check_uri(uri: str) -> str:
    """``uri`` as an absolute URI, its host in A-labels. Raises InvalidInput (``invalid-general-name``)."""
    text = uri.strip()
    if not text.isascii():
        try:
            host = urlsplit(text).hostname or ""
        except ValueError:
            raise _invalid("URI", uri, "Write an absolute URI such as https://example.com/.") from None
        text = text.replace(host, _to_a_labels(host), 1) if host else text
    if len(text) > _LONGEST_URI or not _URI.fullmatch(text):
        raise _invalid("URI", uri, "Write an absolute URI such as https://example.com/, percent-encoded.")
    return text


def _to_a_labels(name: str) -> str:
    if name.isascii():
        return name
    wildcard, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    try:
        return wildcard + idna.encode(rest, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise _invalid("internationalized domain name", name, "Write it in A-labels (xn--...).") from None


def _invalid(kind: str, value: str, remedy: str) -> InvalidInput:
    return InvalidInput(f'"{value[:80]}" is not a {kind}.', code="invalid-general-name", remedy=remedy)
