"""Where the hosts of challenges are: by the DNS servers of the endpoint, and only at addresses that may be reached."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from intaglio.core.errors import Refused
from intaglio.core.outgoing import Guard, not_allowed
from intaglio.enrollment.acme.validation.values import ValidationFailed
from intaglio.transport.resolver import LookupFailed, Resolver

_MOST_ADDRESSES = 4


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
        if self.resolver is None or _is_address(host):
            return await self.guard.resolve(host, port)
        found = await self.resolver.addresses(host)
        if not found:
            raise LookupFailed("it has no A or AAAA record")
        admitted = [each for each in found if self.guard.admits(ipaddress.ip_address(each))]
        if not admitted:
            raise not_allowed(host)
        return admitted


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
