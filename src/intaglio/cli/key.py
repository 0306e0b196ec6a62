"""`intaglio key`: private keys and the master key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.database import database_running
from intaglio.cli.files import write_public
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.clock import rfc3339
from intaglio.core.errors import StateConflict

if TYPE_CHECKING:
    from intaglio.core.secrets import MasterKey
    from intaglio.keystore.holders import Holder
    from intaglio.keystore.rewrap import Progress

app = noun("Private keys and the master key.")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key; see intaglio key list.")]
Subject = Annotated[str | None, typer.Option(help='Such as "CN=Signing Service,O=Demo"; default: CN= and the key id.')]
Out = Annotated[str, typer.Option("--out", "-o", help="File for the request; - is standard output.")]


@command(app, "list", example="intaglio key list --filter 'label~demo'")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the private keys of the installation, newest first."""
    columns = {
        "id": "ID",
        "label": "FOR",
        "algorithm": "TYPE",
        "provider": "IN",
        "protection.never_extractable": "NEVER EXTRACTABLE",
        "created_at": "CREATED",
        "destroyed_at": "DESTROYED",
    }
    cli.out.table(listed(cli, "/keys", filter, sort, limit, all), columns, empty="No keys.")


@command(app, "show", example="intaglio key show 0195f0a2-5c1e-7cc3-98c4-dc0c0c07398f")
def show(cli: Cli, key: Key) -> None:
    """Show one key: where it is, how its token says it guards it, and what uses it."""
    cli.out.result(cli.client.get(f"/keys/{segment(key)}"))


@command(
    app,
    "create",
    example=(
        "intaglio key create ECDSAP256 --provider pkcs11:main",
        'intaglio key create RSA3072 --subject "CN=Signing Service,O=Demo" --out service.csr',
    ),
)
def create(
    cli: Cli,
    key_type: Annotated[str, typer.Argument(metavar="TYPE", help="RSA2048, RSA3072, RSA4096, ECDSAP256 ...")],
    provider: Annotated[str, typer.Option(help="Where it is made: software, or pkcs11:TOKEN.")] = "software",
    subject: Subject = None,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    out: Out = "-",
) -> None:
    """Make a key for a service whose certificate comes from elsewhere, and a certificate request over it."""
    body = {"key_algorithm": key_type, "provider": provider, "subject": subject, "label": label}
    with cli.out.waiting("Making a key"):
        made = cli.client.post("/keys", body)
    _deliver(cli, made, out)


@command(app, "csr", example='intaglio key csr 0195f0a2-5c1e-7cc3-98c4-dc0c0c07398f --subject "CN=Signing Service"')
def csr(cli: Cli, key: Key, subject: Subject = None, out: Out = "-") -> None:
    """Make a certificate request over a key there is, such as to renew its certificate."""
    _deliver(cli, cli.client.post(f"/keys/{segment(key)}/csr", {"subject": subject}), out)


@command(app, "delete", example="intaglio key delete 0195f0a2-5c1e-7cc3-98c4-dc0c0c07398f --yes")
def delete(cli: Cli, key: Key, yes: Yes = False) -> None:
    """Destroy a key that nothing uses, for good: in a token both of its objects."""
    cli.confirm(f"Destroy the private key {key} for good?", yes=yes)
    found = cli.client.delete(f"/keys/{segment(key)}")
    later = "" if found["erased"] else " Its token is away; the objects in it are destroyed when it is back."
    cli.out.result(found, f"The private key {key} is destroyed.{later}")


@command(
    app,
    "migrate",
    example=(
        "intaglio key migrate demo~issuing --to pkcs11:main --yes",
        "intaglio key migrate 0195f0a2-5c1e-7cc3-98c4-dc0c0c07398f --to pkcs11:main --keep --yes",
    ),
)
def migrate(
    cli: Cli,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of a key, or ORGANIZATION~ID for all keys of a CA.")],
    to: Annotated[str, typer.Option(help="software, or pkcs11:TOKEN.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep a copy in the present place, to go back.")] = False,
    yes: Yes = False,
) -> None:
    """Move a private key, or those of a CA and its OCSP signers, to another place. Whoever uses it goes on unchanged.

    A key that was moved into a token is protected from then on; copies of it in old backups of the database are not
    reached. For a key that never was anywhere else, re-key the CA: intaglio ca rekey CA --provider pkcs11:TOKEN.
    """
    what = "a copy stays where it is" if keep else "it is destroyed where it is"
    cli.confirm(f"Move {key} to {to}; {what}?", yes=yes)
    with cli.out.waiting(f"Moving {key}"):
        moved = cli.client.post(f"/keys/{segment(key)}/migrate", {"to": to, "keep": keep})["items"]
    columns = {"id": "ID", "label": "FOR", "origin": "FROM", "provider": "TO", "kept": "COPY KEPT"}
    cli.out.table(moved, columns)


def _deliver(cli: Cli, made: dict[str, Any], out: str) -> None:
    """The id of a key and its request: with the request in a file, the id alone."""
    if out != "-":
        write_public(out, made["csr"])
        cli.out.result({**made, "file": out}, f"Private key {made['id']}; request in {out}.")
        return
    cli.out.result(made, f"Private key {made['id']}\n{made['csr'].rstrip()}")


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
    from intaglio.enrollment import sealed as enrollment
    from intaglio.keystore import holders
    from intaglio.keystore.rewrap import SEALED_COLUMNS
    from intaglio.keystore.rewrap import rewrap as run
    from intaglio.mtls import sealed as mtls
    from intaglio.timestamping import sealed as timestamping
    from intaglio.validation import sealed as validation

    rooms = (mtls, timestamping, validation, enrollment)
    columns = (*SEALED_COLUMNS, *(column for room in rooms for column in room.SEALED_COLUMNS))
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
