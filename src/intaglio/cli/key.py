"""`intaglio key`: private keys and the master key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.database import database_running
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.clock import rfc3339
from intaglio.core.errors import StateConflict

if TYPE_CHECKING:
    from intaglio.core.secrets import MasterKey
    from intaglio.keystore.holders import Holder
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
    """Seal every secret in the database anew under the current master key. May be stopped and repeated.

    Refused while a server on any host does not hold the current master key yet.
    """
    from intaglio.core.secrets import load_master_key, write_master_key

    settings = cli.settings
    master = load_master_key(settings)
    with database_running(settings) as url, cli.out.waiting("Sealing anew"):
        done, nodes = asyncio.run(_rewrap(url, master))
    text = f"{done.done} secrets sealed anew under master key {master.current.hex()}."
    retired = [key_id for key_id in master.keys if key_id != master.current] if retire else []
    if retired:
        for key_id in retired:
            master = master.without(key_id)
        write_master_key(settings.master_key_path, master)
        text += f" Retired: {', '.join(key_id.hex() for key_id in retired)}."
    result = {"done": done.done, "retired": [key_id.hex() for key_id in retired], "nodes": [_node(n) for n in nodes]}
    cli.out.result(result, text)


async def _rewrap(url: str, master: MasterKey) -> tuple[Progress, list[Holder]]:
    """Raises StateConflict when a process that runs could not open what is sealed under the current key."""
    from intaglio.db.engine import Database
    from intaglio.keystore import holders
    from intaglio.keystore.rewrap import SEALED_COLUMNS
    from intaglio.keystore.rewrap import rewrap as run
    from intaglio.mtls import sealed as mtls
    from intaglio.timestamping import sealed as timestamping

    columns = (*SEALED_COLUMNS, *mtls.SEALED_COLUMNS, *timestamping.SEALED_COLUMNS)
    database = Database(url, pool_size=2)
    try:
        nodes = await holders.running(database)
        holders.require_held(nodes, master.current)
        return await run(database, master, columns), nodes
    finally:
        await database.close()


def _node(holder: Holder) -> dict[str, object]:
    place = holder.place
    return {
        "host": place.host,
        "data_dir": place.data_dir,
        "process": place.process,
        "pid": holder.pid,
        "started_at": rfc3339(holder.started_at),
        "seen_at": rfc3339(holder.seen_at),
        "keys": list(holder.keys),
    }
