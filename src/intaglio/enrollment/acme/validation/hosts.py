"""Where the hosts of challenges are: by the DNS servers of the endpoint, and only at addresses that may be reached."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from intaglio.core.errors import Refused
from intaglio.core.outgoing import Guard, not_allowed
from intaglio.enrollment.acme.validation.values import ValidationFailed
from intaglio.transport.resolver import LookupFailed, Resolver

_MOST_ADDRESSES = 4
_HOSTS_FILE = Path("/etc/hosts")


@dataclass(frozen=True)
class Hosts:
    """Looks names up by ``resolver``, or as this host does when there is none."""

    guard: Guard
    resolver: Resolver | None = None

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host, or this address, that may be connected to; at most four, never none.

        Raises ValidationFailed (dns, connection).
        """
        try:
            return (await self._find(host, port))[:_MOST_ADDRESSES]
        except Refused as error:
            raise ValidationFailed("connection", error.detail, remedy=error.remedy) from error
        except LookupFailed as error:
            raise ValidationFailed("dns", f"The address of {host} was not found: {error}.") from error
        except OSError as error:
            raise ValidationFailed("dns", f"{host} has no address.") from error

    async def _find(self, host: str, port: int) -> list[str]:
        if _is_address(host):
            return await self.guard.resolve(host, port)
        if self.resolver is None:
            return await self._find_as_this_host(host, port)
        found = await self.resolver.addresses(host)
        if not found:
            raise LookupFailed("it has no A or AAAA record")
        admitted = [each for each in found if self.guard.admits(ipaddress.ip_address(each))]
        if not admitted:
            raise not_allowed(host)
        return admitted


    async def _find_as_this_host(self, host: str, port: int) -> list[str]:
        """A name of a certificate is absolute: the domains that this host searches (``search`` in resolv.conf, those of
        a cluster first of all) must not answer for it. Its file of hosts may."""
        try:
            return await self.guard.resolve(f"{host}.", port)
        except OSError:
            if host not in _written_down():
                raise
        return await self.guard.resolve(host, port)


def _written_down() -> set[str]:
    """The names in the file of hosts, in lower case."""
    try:
        lines = _HOSTS_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {name.lower() for line in lines for name in line.partition("#")[0].split()[1:]}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
