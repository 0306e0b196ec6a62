"""Session tokens of `intaglio login`, by server, in a file of the user's configuration folder (mode 0600)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from intaglio.cli.files import write_private


def stored_token(server: str) -> str | None:
    """The token of the last login to ``server``, if any."""
    return _read().get(_key(server))


def store_token(server: str, token: str | None) -> None:
    """Keep the token of a login, or forget it."""
    tokens = _read()
    if token is None:
        tokens.pop(_key(server), None)
    else:
        tokens[_key(server)] = token
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    write_private(str(temporary), json.dumps(tokens), force=True)
    os.replace(temporary, path)


def _read() -> dict[str, str]:
    try:
        tokens = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in tokens.items()} if isinstance(tokens, dict) else {}


def _key(server: str) -> str:
    return server.rstrip("/").lower()


def _path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "intaglio" / "logins.json"
