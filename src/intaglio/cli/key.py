"""`intaglio key`: private keys and the master key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.database import database_running
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import StateConflict, Unavailable

if TYPE_CHECKING:
    from intaglio.core.secrets import MasterKey
    from intaglio.keystore.rewrap import Progress

app = noun("Private keys and the master key.")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "list", example="intaglio key list --filter 'label~demo'")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the private keys of the installation, newest first."""
    columns = {
        "id": "ID",
        "label": "FOR",
        "algorithm": "TYPE",
        "provider": "IN",
        "created_at": "CREATED",
        "destroyed_at": "DESTROYED",
    }
    cli.out.table(listed(cli, "/keys", filter, sort, limit, all), columns, empty="No keys.")


@command(app, "rotate-master", example="intaglio key rotate-master --yes", local=True)
def rotate_master(cli: Cli, yes: Yes = False) -> None:
    """Put a fresh key in front of the master key file; the old ones still open what they sealed.

    Afterwards: copy the file to every host and to its safe place, restart the servers, then `intaglio key rewrap`.
    """
    from intaglio.core.secrets import load_master_key, write_master_key

    settings = cli.settings
    if settings.master_key is not None:
        raise StateConflict(
            "The master key comes from the environment, not from a file.",
            code="master-key-not-a-file",
            remedy="Use a master key file (INTAGLIO_MASTER_KEY_FILE).",
        )
    cli.confirm(f"Add a new master key to {settings.master_key_path}?", yes=yes)
    rotated = load_master_key(settings).rotated()
    write_master_key(settings.master_key_path, rotated)
    text = (
        f"New master key {rotated.current.hex()} in {settings.master_key_path}. Back the file up, restart the servers, "
    )
    cli.out.result({"current": rotated.current.hex(), "keys": len(rotated.keys)}, text + "then: intaglio key rewrap")


@command(app, "rewrap", example="intaglio key rewrap --retire", local=True)
def rewrap(
    cli: Cli,
    retire: Annotated[
        bool, typer.Option("--retire", help="Afterwards remove the old keys from the master key file.")
    ] = False,
) -> None:
    """Seal every secret in the database anew under the current master key. May be stopped and repeated."""
    from intaglio.core.secrets import load_master_key, write_master_key

    settings = cli.settings
    _require_restarted(cli)
    master = load_master_key(settings)
    with database_running(settings) as url, cli.out.waiting("Sealing anew"):
        done = asyncio.run(_rewrap(url, master))
    text = f"{done.done} secrets sealed anew under master key {master.current.hex()}."
    retired = [key_id for key_id in master.keys if key_id != master.current] if retire else []
    if retired:
        for key_id in retired:
            master = master.without(key_id)
        write_master_key(settings.master_key_path, master)
        text += f" Retired: {', '.join(key_id.hex() for key_id in retired)}."
    cli.out.result({"done": done.done, "retired": [key_id.hex() for key_id in retired]}, text)


async def _rewrap(url: str, master: MasterKey) -> Progress:
    from intaglio.db.engine import Database
    from intaglio.keystore.rewrap import rewrap as run

    database = Database(url, pool_size=2)
    try:
        return await run(database, master)
    finally:
        await database.close()


def _require_restarted(cli: Cli) -> None:
    """A server that runs with the old key ring could not open what is sealed under the new key."""
    from datetime import UTC, datetime

    from intaglio.server.runtime import read_runtime

    try:
        runtime = read_runtime(cli.settings.data_dir)
        changed = datetime.fromtimestamp(cli.settings.master_key_path.stat().st_mtime, UTC)
    except (Unavailable, FileNotFoundError):
        return
    if datetime.fromisoformat(runtime.started_at) < changed:
        raise StateConflict(
            "The server on this host was started before the master key file was changed.",
            code="restart-needed",
            remedy="Restart it (and those on other hosts, with the same file), then repeat this.",
        )
