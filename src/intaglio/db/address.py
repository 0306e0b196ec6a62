"""The address of a database: a libpq URL, or its ``name=value`` form."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from intaglio.core.errors import InvalidInput

_SECRETS = ("password", "sslpassword")
_VERIFIED = "verify-full"
_SYSTEM_ROOTS = 160000  # libpq that knows sslrootcert=system
_OWN_ROOTS = "~/.postgresql/root.crt"  # what libpq looks for when it is told nothing


def parse(url: str) -> dict[str, Any]:
    """The connection parameters by libpq's names. Raises InvalidInput (``database-url-invalid``).

    What was wrong is not quoted: with an unescaped character in it, a part of the password stands anywhere.
    """
    try:
        found = conninfo_to_dict(url)
        hosts = str(found.get("host") or "")
        ports = [int(port) for port in str(found.get("port") or "5432").split(",") if port]
    except (psycopg.Error, ValueError):
        raise _unreadable() from None
    if "@" in hosts or not all(0 < port < 1 << 16 for port in ports):
        raise _unreadable()
    return found


def secured(url: str) -> str:
    """The address to connect to: as given where the database is on this host, otherwise with its server verified.

    Over a network nothing less than ``sslmode=verify-full`` will do: whoever is in between could read and change all
    that the database says, grants among it, and with less the client does not look who answers. Where the address says
    nothing, that is added, and the roots of the operating system are trusted unless there is a root file of one's own.
    Whether a service file leads off this host is not known, so it counts as if it did.

    Raises InvalidInput (``database-url-invalid``; ``database-tls-required`` for another sslmode, from the address or
    from PGSSLMODE).
    """
    found = parse(url)
    if not _leaves_this_host(found):
        return url
    mode = found.get("sslmode") or os.environ.get("PGSSLMODE") or _VERIFIED
    if mode != _VERIFIED:
        raise InvalidInput(
            f"The database is reached over a network, and sslmode={mode} does not verify who answers there.",
            code="database-tls-required",
            remedy="Write sslmode=verify-full into the database URL, and sslrootcert=FILE with the CA certificate of "
            "the database server unless the operating system trusts it. A database on this host needs no TLS: name it "
            "by localhost or by the folder of its socket.",
        )
    added = {"sslmode": _VERIFIED}
    if not _names_roots(found) and pq.version() >= _SYSTEM_ROOTS:
        added["sslrootcert"] = "system"
    return make_conninfo(url, **added)


def without_secrets(url: str) -> str:
    """The same address, fit to be shown. Raises InvalidInput."""
    shown = {name: value for name, value in parse(url).items() if name not in _SECRETS}
    if not url.startswith(("postgresql://", "postgres://")):
        return make_conninfo(**shown)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable() from None
    account, _, hosts = parts.netloc.rpartition("@")
    user = account.partition(":")[0]
    query = [each for each in parts.query.split("&") if unquote_plus(each.partition("=")[0]) not in _SECRETS]
    return urlunsplit(parts._replace(netloc=f"{user}@{hosts}" if user else hosts, query="&".join(query)))


def _leaves_this_host(found: Mapping[str, Any]) -> bool:
    """Whether any of the hosts is another one. An address (hostaddr) counts before a name, as libpq has it."""
    if _given(found, "service", "PGSERVICE"):
        return True
    hosts = _given(found, "host", "PGHOST").split(",")
    addresses = _given(found, "hostaddr", "PGHOSTADDR").split(",")
    return not all(_is_here(number or name) for number, name in zip_longest(addresses, hosts, fillvalue=""))


def _is_here(place: str) -> bool:
    """Nothing, and a path, mean a Unix socket."""
    if not place or place.startswith("/") or place.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(place).is_loopback
    except ValueError:
        return False


def _names_roots(found: Mapping[str, Any]) -> bool:
    if _given(found, "sslrootcert", "PGSSLROOTCERT") or _given(found, "service", "PGSERVICE"):
        return True
    return Path(_OWN_ROOTS).expanduser().exists()


def _given(found: Mapping[str, Any], name: str, variable: str) -> str:
    return str(found.get(name) or os.environ.get(variable) or "")


def _unreadable() -> InvalidInput:
    return InvalidInput(
        "The database URL cannot be read.",
        code="database-url-invalid",
        remedy="It has the form postgresql://USER:PASSWORD@HOST:PORT/NAME. In the password, write what is no letter "
        "or digit as %XX: %40 for @, %2F for /, %25 for %.",
    )
