"""The validation of one challenge, as this process and, where there are any, services elsewhere see it."""

from __future__ import annotations

import asyncio

from intaglio.core.outgoing import Guard
from intaglio.enrollment.acme.validation import dns01, http01, perspectives, tlsalpn01
from intaglio.enrollment.acme.validation.hosts import Hosts
from intaglio.enrollment.acme.validation.options import ValidationOptions
from intaglio.enrollment.acme.validation.values import Target, ValidationFailed
from intaglio.gateway.filters.caa import CaaPolicy, CaaRefused
from intaglio.transport.resolver import Resolver


class Validator:
    """Validates by the options of an endpoint; ``guard`` says which addresses may be connected to."""

    def __init__(self, options: ValidationOptions, guard: Guard) -> None:
        self._options = options
        self._guard = guard
        self._resolver = Resolver(
            options.nameservers, timeout=options.dns_timeout, require_dnssec=options.require_dnssec
        )
        self._hosts = Hosts(guard, self._resolver if options.nameservers or options.require_dnssec else None)

    async def validate(self, target: Target) -> None:
        """Return when the challenge is met, from here and from enough perspectives, and no CAA record objects.

        Raises ValidationFailed. Takes no longer than ``total_timeout``.
        """
        try:
            async with asyncio.timeout(self._options.total_timeout):
                await self._prove(target)
                if target.kind == "dns":
                    await self.check_caa(
                        target.value, wildcard=target.wildcard, method=target.method, account_uri=target.account_uri
                    )
                if self._options.perspectives:
                    await perspectives.agree(self._options, target, self._guard)
        except TimeoutError:
            raise ValidationFailed(
                "connection", f"The validation of {target.value} took longer than {self._options.total_timeout:g} s."
            ) from None

    async def check_caa(self, domain: str, *, wildcard: bool, method: str, account_uri: str) -> None:
        """Return when CAA records let this CA issue, or none of our names in them is set. Raises ValidationFailed."""
        if not self._options.caa_identities:
            return
        policy = CaaPolicy(self._options.caa_identities)
        try:
            await policy.check(self._resolver, domain, wildcard=wildcard, account_uri=account_uri, method=method)
        except CaaRefused as error:
            raise ValidationFailed("caa", error.detail, remedy=error.remedy) from error

    async def _prove(self, target: Target) -> None:
        match target.method:
            case "http-01":
                await http01.prove(self._hosts, self._options, target)
            case "dns-01":
                await dns01.prove(self._resolver, target)
            case "tls-alpn-01":
                await tlsalpn01.prove(self._hosts, self._options, target)
            case _:
                raise ValidationFailed("malformed", f'There is no challenge "{target.method[:40]}" here.')
