"""The URLs of endpoints: as they stand in answers, and as they are shown with commands that use them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from intaglio.core.settings import Settings
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.values import Endpoint, Protocol, plain_address

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Bases:
    """Where endpoints are reached, without a slash at the end: over TLS, and plainly where the protocol allows."""

    https: str
    http: str


@dataclass(frozen=True)
class Command:
    """A command line that a client runs, and the URL it speaks to."""

    title: str
    url: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class EndpointUrls:
    """Where an endpoint is reached."""

    endpoint: Endpoint
    urls: tuple[str, ...]
    commands: tuple[Command, ...]


async def base_url(enrollment: Enrollment, scope: Mapping[str, Any]) -> str:
    """The base under which the client of a request reaches this server, without a slash at the end: the setting, else
    the host that it asked, as a trusted proxy or the client itself says."""
    await enrollment.endpoints.catch_up()
    return asked_base(enrollment.settings, enrollment.endpoints.settings, scope)


async def source(enrollment: Enrollment, scope: Mapping[str, Any]) -> str:
    """The address of whoever asks: the peer, or whom a trusted proxy names."""
    await enrollment.endpoints.catch_up()
    return source_of(enrollment.endpoints.settings, scope)


def asked_base(settings: Settings, live: EnrollmentSettings, scope: Mapping[str, Any]) -> str:
    """Like :func:`base_url`, from settings that are known."""
    scheme = str(scope.get("scheme", "https"))
    headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
    host = headers.get(b"host", "")
    if is_trusted_proxy(live, scope):
        forwarded = headers.get(b"x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        scheme = forwarded if forwarded in _DEFAULT_PORTS else scheme
        host = headers.get(b"x-forwarded-host", "").rpartition(",")[2].strip() or host
    configured: str | None = live.base_url if scheme == "https" else live.plain_base_url
    if configured is not None:
        return configured
    if not _HOST.fullmatch(host):
        known = bases(settings, live)
        return known.https if scheme == "https" else known.http
    return f"{scheme}://{host.lower()}"


def source_of(live: EnrollmentSettings, scope: Mapping[str, Any]) -> str:
    """The address of whoever asks: the peer, or whom a trusted proxy names."""
    client = scope.get("client")
    peer = str(client[0]) if client else ""
    if not is_trusted_proxy(live, scope):
        return peer
    headers: list[str] = [v.decode("latin-1") for name, v in scope.get("headers", ()) if name == b"x-forwarded-for"]
    chain = [part.strip() for header in headers for part in header.split(",") if part.strip()]
    for address in reversed(chain):  # the last hop that is not one of our proxies
        if not _is_within(live, address):
            return address[:64]
    return peer


def is_trusted_proxy(live: EnrollmentSettings, scope: Mapping[str, Any]) -> bool:
    """Whether a request comes from a proxy whose headers count."""
    client = scope.get("client")
    return bool(live.trusted_proxies) and client is not None and _is_within(live, str(client[0]))


def _is_within(live: EnrollmentSettings, address: str) -> bool:
    try:
        plain = plain_address(address)
    except ValueError:
        return False
    return any(plain in ip_network(network) for network in live.trusted_proxies)


def bases(settings: Settings, live: EnrollmentSettings) -> Bases:
    """The bases for who is told a URL without having asked one."""
    host = f"[{settings.hostname}]" if ":" in settings.hostname else settings.hostname
    port = "" if settings.enroll.port == _DEFAULT_PORTS["https"] else f":{settings.enroll.port}"
    return Bases(live.base_url or f"https://{host}{port}", live.plain_base_url or settings.public_base)


def urls_of(endpoint: Endpoint, where: Bases) -> EndpointUrls:
    """The URLs of an endpoint, the one to give to clients first, with commands to copy."""
    module = importlib.import_module(f"intaglio.enrollment.{endpoint.protocol.value}.commands")
    commands: tuple[Command, ...] = tuple(module.commands(endpoint, where))
    return EndpointUrls(endpoint, addresses_of(endpoint, where), commands)


def addresses_of(endpoint: Endpoint, where: Bases) -> tuple[str, ...]:
    """The URLs of an endpoint, the one to give to clients first."""
    return _URLS[endpoint.protocol](endpoint, where)


def _acme(endpoint: Endpoint, where: Bases) -> tuple[str, ...]:
    return (f"{where.https}/acme/{_place(endpoint)}/directory",)


def _est(endpoint: Endpoint, where: Bases) -> tuple[str, ...]:
    labelled = f"{where.https}/.well-known/est/{endpoint.name}"
    plain = (f"{where.https}/.well-known/est",) if endpoint.name == "default" else ()
    return (*plain, labelled, f"{where.https}/est/{_place(endpoint)}")


def _scep(endpoint: Endpoint, where: Bases) -> tuple[str, ...]:
    path = f"/scep/{_place(endpoint)}/"
    return (where.http + path, where.https + path)


def _cmp(endpoint: Endpoint, where: Bases) -> tuple[str, ...]:
    paths = [f"/.well-known/cmp/p/{endpoint.name}", f"/cmp/{_place(endpoint)}"]
    if endpoint.name == "default":
        paths.insert(0, "/.well-known/cmp")
    return tuple(base + path for path in paths for base in (where.http, where.https))


def _place(endpoint: Endpoint) -> str:
    return f"{endpoint.tenant}/{endpoint.ca}/{endpoint.profile}"


_URLS: Final = {Protocol.ACME: _acme, Protocol.EST: _est, Protocol.SCEP: _scep, Protocol.CMP: _cmp}
