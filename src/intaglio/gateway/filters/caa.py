"""Certification authority authorization: whether the owner of a domain lets this CA issue for it.

The closest name at or above the domain that has CAA records decides (tree climbing, RFC 8659 section 3); what cannot be
looked up refuses. Of the parameters, ``accounturi`` and ``validationmethods`` are understood (RFC 8657).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from intaglio.core.errors import Refused
from intaglio.transport.resolver import CaaRecord, LookupFailed

_CRITICAL: Final = 0x80
_KNOWN_TAGS: Final = frozenset({"issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"})


class Lookup(Protocol):
    """Who looks CAA records up; see ``transport.resolver.Resolver``."""

    async def caa(self, name: str) -> list[CaaRecord]:
        """The records of exactly this name. Raises LookupFailed."""
        ...


class CaaRefused(Refused):
    """The records of a domain do not let this CA issue, or could not be looked up (``caa-unknown``)."""

    default_code = "caa-forbids"


@dataclass(frozen=True)
class CaaPolicy:
    """Our names in CAA records (issuer domain names), at least one."""

    identities: tuple[str, ...]

    async def check(
        self, lookup: Lookup, domain: str, *, wildcard: bool = False, account_uri: str = "", method: str = ""
    ) -> None:
        """Return when issuing for ``domain`` (without ``*.``) is allowed.

        ``account_uri`` and ``method`` (``dns-01`` ...) are how control over the domain was proven; empty when it was
        not by ACME. Raises CaaRefused.
        """
        where, records = await _relevant(lookup, domain)
        wanted = "issuewild" if wildcard and any(each.tag == "issuewild" for each in records) else "issue"
        if unknown := [each.tag for each in records if each.flags & _CRITICAL and each.tag not in _KNOWN_TAGS]:
            raise CaaRefused(f'The CAA records of {where} have the unknown critical property "{unknown[0][:40]}".')
        restricting = [each.value for each in records if each.tag == wanted]
        if not restricting or any(self._permits(value, account_uri, method) for value in restricting):
            return
        raise CaaRefused(
            f"The CAA records of {where} do not let this CA issue for {'*.' if wildcard else ''}{domain}.",
            remedy=f'Publish for example: {where}. CAA 0 {wanted} "{self.identities[0]}"',
            extra={"records": [value[:200] for value in restricting[:10]]},
        )

    def _permits(self, value: str, account_uri: str, method: str) -> bool:
        """Whether one ``issue`` or ``issuewild`` value allows it; a malformed one allows nothing (RFC 8659 4.2)."""
        issuer, *parameters = (part.strip() for part in value.split(";"))
        if issuer.rstrip(".").lower() not in {name.lower() for name in self.identities}:
            return False
        given: dict[str, str] = {}
        for parameter in filter(None, parameters):
            name, equals, content = (part.strip() for part in parameter.partition("="))
            if not equals or not name or name.lower() in given:
                return False
            given[name.lower()] = content
        if "accounturi" in given and given["accounturi"] != account_uri:
            return False
        methods = given.get("validationmethods")
        return methods is None or method in {each.strip() for each in methods.split(",")} - {""}


async def _relevant(lookup: Lookup, domain: str) -> tuple[str, Sequence[CaaRecord]]:
    """The closest name at or above ``domain`` with CAA records, and them; none of them when nobody has any."""
    name = domain.rstrip(".")
    while name:
        try:
            records = await lookup.caa(name)
        except LookupFailed as error:
            raise CaaRefused(
                f"Whether this CA may issue for {domain} is not known: {error}.",
                code="caa-unknown",
                remedy="Make the DNS servers of the domain answer questions for CAA records.",
            ) from error
        if records:
            return name, records
        _, _, name = name.partition(".")
    return domain, ()
