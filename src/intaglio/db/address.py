"""The address of a database: a libpq URL, or its ``name=value`` form."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from intaglio.core.errors import InvalidInput

_SECRETS = ("password", "sslpassword")


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


def _unreadable() -> InvalidInput:
    return InvalidInput(
        "The database URL cannot be read.",
        code="database-url-invalid",
        remedy="It has the form postgresql://USER:PASSWORD@HOST:PORT/NAME. In the password, write what is no letter "
        "or digit as %XX: %40 for @, %2F for /, %25 for %.",
    )
