"""The account that the embedded PostgreSQL runs as when root starts it: PostgreSQL refuses to run as root.

It is one that nothing else runs as, since whoever has the account has the database. Where there is none it is made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from intaglio.core.errors import Unavailable
from intaglio.core.logging import get_logger

log = get_logger(__name__)

ACCOUNT = "intaglio-db"
_SERVICE = "intaglio"  # runs the whole of Intaglio where the documentation is followed
_STAND_IN = "postgres"
_SHARED = "nobody"
_CREATE = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin")
_REMEDY = f"Create it: useradd {' '.join(_CREATE)} {ACCOUNT}"
_TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"
_PATIENCE = 60.0  # seconds; useradd waits for others that change accounts


def server_account(data_dir: Path, cluster: Path) -> pwd.struct_passwd | None:
    """The account to run the server of ``cluster`` as; None when we are not root, and so run it ourselves.

    A cluster that exists keeps its owner, whoever that is. A new one below a data folder that belongs to the account
    ``intaglio`` gets that, because it will run Intaglio itself; every other gets ``intaglio-db``, which is made when
    there is none. Where that fails ``postgres`` stands in, with a warning.

    Raises Unavailable (``database-account-missing``): the owner has no name here, or there is no account that only
    database servers run as. ``nobody`` is shared with anything, so it is never chosen.
    """
    if os.geteuid() != 0:
        return None
    if (cluster / "PG_VERSION").exists() and (owner := cluster.stat().st_uid) != 0:
        return _owner(cluster, owner)
    service = _find(_SERVICE)
    if service is not None and data_dir.exists() and data_dir.stat().st_uid == service.pw_uid:
        return service
    found = _find(ACCOUNT) or _created()
    if found is not None:
        return found
    stand_in = _find(_STAND_IN)
    if stand_in is None:
        raise Unavailable(
            "PostgreSQL does not run as root, and there is no account for the embedded database.",
            code="database-account-missing",
            remedy=f"{_REMEDY}. Or run Intaglio as an ordinary user, or set INTAGLIO_DATABASE_URL.",
        )
    log.warning(
        "the embedded database shares its account with other database servers", account=_STAND_IN, remedy=_REMEDY
    )
    return stand_in


def _owner(cluster: Path, owner: int) -> pwd.struct_passwd:
    try:
        account = pwd.getpwuid(owner)
    except KeyError:
        raise Unavailable(
            f"The embedded database belongs to the account number {owner}, which has no name here.",
            code="database-account-missing",
            remedy=f"Create it: useradd {' '.join(_CREATE)} --uid {owner} {ACCOUNT}",
        ) from None
    if account.pw_name == _SHARED:
        log.warning(
            "the embedded database belongs to an account that other programs use, too",
            account=_SHARED,
            remedy=f"Stop Intaglio; {_REMEDY}; chown -R {ACCOUNT}: {cluster}; start it.",
        )
    return account


def _created() -> pwd.struct_passwd | None:
    """Make the account; None, and a warning, when that is not possible here."""
    tool = shutil.which("useradd", path=_TOOLS)
    if tool is None:
        reason = "there is no useradd"
    else:
        command = [tool, *_CREATE, ACCOUNT]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_PATIENCE,
                stdin=subprocess.DEVNULL, env={"PATH": _TOOLS, "LANG": "C.UTF-8"},
            )  # fmt: skip
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
    found = _find(ACCOUNT)  # whatever was said: another process may have made it meanwhile
    if found is None:
        log.warning("the account of the embedded database cannot be created", account=ACCOUNT, reason=reason)
    else:
        log.info("created the account of the embedded database", account=ACCOUNT, uid=found.pw_uid)
    return found


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return found if found.pw_uid != 0 else None
