"""What trust domains, identities and their attributes may be called.

All of it goes into SPIFFE IDs, subjects and log lines, so the alphabets are small. Source: SPIFFE-ID section 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.identities.values import Kind
from intaglio.x509.host_names import check_dns_name, check_email_address

_DOMAIN = re.compile(r"(?=.{1,200}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_ENVIRONMENT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
# RFC 5280 appendix A.1 ends a common name and an organizational unit at 64 characters.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/+-]{0,62}[A-Za-z0-9])?")
_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
MAX_ROLES = 32
MAX_DNS_NAMES = 50
MAX_PROPERTIES = 32
_LONGEST_TEXT = 200


def domain_name(text: str) -> str:
    """The name of a trust domain: a DNS name in lower case. Raises InvalidInput."""
    return _matching(_DOMAIN, text, "name", "the name of a trust domain", "Write a DNS name: prod.example.")


def environment_name(text: str) -> str:
    """The name of an environment. Raises InvalidInput."""
    return _matching(_ENVIRONMENT, text, "environment", "an environment", "Use dev, staging, prod, or a-z, 0-9 and -.")


def identity_name(text: str, *, target: str = "name") -> str:
    """The name of an identity, a team or a service. Raises InvalidInput."""
    remedy = "Use up to 64 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit."
    return _matching(_NAME, text, target, f"a {target}", remedy)


def kind_of(text: str) -> Kind:
    """The kind with this name. Raises InvalidInput."""
    try:
        return Kind(text.strip().lower())
    except ValueError:
        raise InvalidInput(
            f'"{text[:40]}" is not a kind of identity.',
            code="kind-unknown",
            remedy=f"Use one of: {', '.join(Kind)}.",
            target="kind",
        ) from None


def roles(texts: Iterable[str]) -> tuple[str, ...]:
    """Roles, each once. Raises InvalidInput."""
    found = tuple(dict.fromkeys(word(text, target="roles") for text in texts))
    if len(found) > MAX_ROLES:
        raise InvalidInput(f"An identity has at most {MAX_ROLES} roles.", target="roles")
    return found


def word(text: str, *, target: str) -> str:
    """A role or a version. Raises InvalidInput."""
    return _matching(_WORD, text, target, f"a value of {target}", "Use up to 64 letters, digits and . _ : / + -.")


def email_address(text: str, domains: Iterable[str] = ()) -> str:
    """An e-mail address as it goes into certificates, its host in lower case and one of ``domains`` (none: any).

    Raises InvalidInput (``email-invalid``), Refused (``email-outside-domain``).
    """
    try:
        local, _, host = check_email_address(text).rpartition("@")
    except InvalidInput as error:
        raise InvalidInput(error.detail, code="email-invalid", remedy=error.remedy, target="email") from None
    allowed = tuple(domains)
    if allowed and not within_email_domains(host.lower(), allowed):
        raise Refused(
            f'The e-mail address "{text[:80]}" is outside of the trust domain.',
            code="email-outside-domain",
            remedy=f"Use an address of: {', '.join(allowed)}; others are named when its CA is made (--email-domain).",
            target="email",
        )
    return f"{local}@{host.lower()}"


def within_email_domains(host: str, domains: Iterable[str]) -> bool:
    """Whether addresses of ``host`` are permitted: ``example`` is that host, ``.example`` all below it.

    A host with a leading dot stands for all below it, too. Source: RFC 5280 section 4.2.1.10.
    """
    return any(host == domain or (domain.startswith(".") and host.endswith(domain)) for domain in domains)


def dns_names(texts: Iterable[str], suffixes: Iterable[str]) -> tuple[str, ...]:
    """DNS names in lower case, each once, all of them at or below one of ``suffixes`` (none: anywhere).

    Raises InvalidInput (syntax, a wildcard, too many), Refused (``dns-name-outside-domain``).
    """
    allowed = tuple(suffixes)
    found: dict[str, None] = {}
    for text in texts:
        name = check_dns_name(text).lower()
        if name.startswith("*"):
            raise InvalidInput(f'"{name}": an identity is one host, not all of them.', target="dns_names")
        if allowed and not any(name == suffix or name.endswith(f".{suffix}") for suffix in allowed):
            raise Refused(
                f'The DNS name "{name}" is outside of the trust domain.',
                code="dns-name-outside-domain",
                remedy=f"Use names at or below: {', '.join(allowed)}.",
                target="dns_names",
            )
        found[name] = None
    if len(found) > MAX_DNS_NAMES:
        raise InvalidInput(f"An identity has at most {MAX_DNS_NAMES} DNS names.", target="dns_names")
    return tuple(found)


def plain_text(text: str, *, target: str) -> str:
    """Words for people: at most 200 printable characters. Raises InvalidInput."""
    stripped = text.strip()
    if len(stripped) > _LONGEST_TEXT or not stripped.isprintable():
        raise InvalidInput(f"{target} has at most {_LONGEST_TEXT} printable characters.", target=target)
    return stripped


def properties(given: dict[str, str]) -> dict[str, str]:
    """Facts that are kept with an identity and not certified. Raises InvalidInput."""
    if len(given) > MAX_PROPERTIES or not all(map(_PROPERTY.fullmatch, given)):
        raise InvalidInput(
            f"An identity has at most {MAX_PROPERTIES} properties, named with letters, digits and . _ -.",
            target="properties",
        )
    return {name: plain_text(value, target="properties") for name, value in given.items()}


def _matching(pattern: re.Pattern[str], text: str, target: str, what: str, remedy: str) -> str:
    if not pattern.fullmatch(text):
        raise InvalidInput(f'"{text[:80]}" cannot be {what}.', code="name-invalid", remedy=remedy, target=target)
    return text
