"""Fetching from addresses that somebody named: the operator's list of networks, and an HTTP client that keeps to it."""

from __future__ import annotations

import ssl

import httpx
from pydantic import Field, field_validator

from intaglio.core.errors import InvalidInput
from intaglio.core.outgoing import Guard, networks_of
from intaglio.db.engine import Transaction
from intaglio.platform import live_settings
from intaglio.platform.live_settings import SettingsGroup


class OutgoingSettings(SettingsGroup):
    """Where the platform connects to when an organization names the address."""

    group = "outgoing"

    networks: list[str] = Field(
        default=[],
        max_length=100,
        description="Networks that are not public (CIDR) but may be connected to all the same; public addresses always "
        "may be. Metadata services of clouds must be listed one by one.",
    )

    @field_validator("networks")
    @classmethod
    def _canonical(cls, value: list[str]) -> list[str]:
        try:
            return networks_of(value)
        except InvalidInput as error:
            raise ValueError(error.detail) from None


async def guard_of(view: Transaction) -> Guard:
    """The guard by the settings in force."""
    return Guard.of((await live_settings.current(view, OutgoingSettings)).networks)


def http_client(guard: Guard, tls: ssl.SSLContext, *, timeout: httpx.Timeout | float) -> httpx.AsyncClient:
    """An HTTP client whose every connection ``guard`` has judged; ``timeout`` in seconds.

    Redirects are not followed; who follows one makes a new request, which is judged again. Nothing compressed is asked
    for: read answers with ``aiter_raw``, for some octets of a hostile one become millions. Requests raise Refused
    (``address-not-allowed``) besides what httpx raises.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(guard, tls),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity"},
    )


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request to an address that the guard has judged, under the name that the request has.

    A connection serves one request: kept ones are known by address, and would serve another name at the same one.
    """

    def __init__(self, guard: Guard, tls: ssl.SSLContext) -> None:
        self._guard = guard
        self._inner = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Resolve, judge, send. Raises Refused, httpx.TransportError."""
        host, port = request.url.raw_host.decode("ascii"), request.url.port or _PORTS.get(request.url.scheme, 0)
        try:
            addresses = await self._guard.resolve(host, port)
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_at(request, address, host))
            except httpx.ConnectError as error:
                if isinstance(error.__cause__, ssl.SSLError) or isinstance(error.__context__, ssl.SSLError):
                    raise  # somebody answered
            except httpx.ConnectTimeout:
                continue
        return await self._inner.handle_async_request(_at(request, addresses[-1], host))

    async def aclose(self) -> None:
        await self._inner.aclose()


_PORTS = {"https": 443, "http": 80}


def _at(request: httpx.Request, address: str, host: str) -> httpx.Request:
    """The same request at this address: the Host header stays, and so does the name to ask for and verify."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={"sni_hostname": host, **request.extensions},
    )
