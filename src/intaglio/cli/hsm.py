"""`intaglio hsm`: tokens by PKCS #11."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_secret
from intaglio.cli.hsm_files import app as files_app

app = noun("Hardware security modules and other tokens (PKCS #11).")
token_app = noun("The tokens that keys may be kept in.")
app.add_typer(token_app, name="token")
files_app(app)

Token = Annotated[str, typer.Argument(metavar="TOKEN", help="Name of the token.")]
Label = Annotated[str | None, typer.Option(help="Label of the token.")]
Serial = Annotated[str | None, typer.Option(help="Serial number of the token.")]
Slot = Annotated[int | None, typer.Option(min=0, help="Slot id.")]
Sessions = Annotated[int | None, typer.Option(min=1, max=1000, help="Sessions open at a time, per process.")]
Timeout = Annotated[float | None, typer.Option(min=1, max=120, help="Seconds that an operation may wait.")]
PinFile = Annotated[str | None, typer.Option(help="File with the PIN (or INTAGLIO_HSM_PIN, or a prompt).")]
Unchecked = Annotated[bool, typer.Option("--unchecked", help="Do not try it first: the token is not there yet.")]
LoadSharing = Annotated[
    bool | None, typer.Option("--load-sharing/--no-load-sharing", help="Several tokens hold the same keys.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "modules", example="intaglio hsm modules")
def modules(cli: Cli) -> None:
    """List the PKCS #11 libraries that the server may load.

    Libraries of known products are found by themselves; others are named in the settings of the server:
    INTAGLIO_PKCS11_MODULES=name=/path/to/library.so.
    """
    columns = {"name": "NAME", "title": "PRODUCT", "path": "LIBRARY", "origin": "FROM", "fault": "FAULT"}
    cli.out.table(cli.client.get("/hsm/modules")["items"], columns, empty="No modules.")


@command(app, "slots", example="intaglio hsm slots softhsm2")
def slots(cli: Cli, module: Annotated[str, typer.Argument(metavar="MODULE", help="See intaglio hsm modules.")]) -> None:
    """List the slots of a library and the tokens in them."""
    columns = {
        "slot": "SLOT",
        "token.label": "LABEL",
        "token.serial": "SERIAL",
        "token.model": "MODEL",
        "token.firmware": "FIRMWARE",
        "token.initialized": "INITIALIZED",
        "token.pin": "PIN",
        "description": "DESCRIPTION",
    }
    cli.out.table(cli.client.get(f"/hsm/modules/{segment(module)}/slots")["items"], columns, empty="No slots.")


@command(token_app, "list", example="intaglio hsm token list")
def list_(cli: Cli) -> None:
    """List the tokens that keys may be kept in."""
    columns = {
        "name": "NAME",
        "module": "MODULE",
        "label": "LABEL",
        "serial": "SERIAL",
        "slot": "SLOT",
        "sessions": "SESSIONS",
        "load_sharing": "SHARED",
        "pin_state": "PIN",
        "keys": "KEYS",
    }
    cli.out.table(cli.client.get("/hsm/tokens")["items"], columns, empty="No tokens. Add one: intaglio hsm token add.")


@command(
    token_app,
    "add",
    example="intaglio hsm token add main --module softhsm2 --label intaglio --pin-file pin.txt",
)
def add(
    cli: Cli,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Name to give it; keys are in pkcs11:TOKEN.")],
    module: Annotated[str, typer.Option(help="PKCS #11 library; see intaglio hsm modules.")],
    label: Label = None,
    serial: Serial = None,
    slot: Slot = None,
    pin_file: PinFile = None,
    sessions: Sessions = 8,
    timeout: Timeout = 10.0,
    load_sharing: LoadSharing = False,
    unchecked: Unchecked = False,
) -> None:
    """Let keys be kept in a token. It is found and logged in to first; a wrong PIN is tried once and not kept."""
    body: dict[str, Any] = {"name": token, "module": module, "label": label, "serial": serial, "slot": slot}
    body |= {"sessions": sessions, "timeout": timeout, "load_sharing": load_sharing, "check": not unchecked}
    body["pin"] = _pin(pin_file)
    with cli.out.waiting(f"Logging in to {token}"):
        made = cli.client.post("/hsm/tokens", body)
    cli.out.result(made, f"Keys can be made in {made['provider']}. Try it: intaglio hsm check {token}")


@command(token_app, "show", example="intaglio hsm token show main")
def show(cli: Cli, token: Token) -> None:
    """Show a token as it is configured; its PIN is never shown."""
    cli.out.result(cli.client.get(f"/hsm/tokens/{segment(token)}"))


@command(token_app, "change", example="intaglio hsm token change main --sessions 16")
def change(
    cli: Cli,
    token: Token,
    module: Annotated[str | None, typer.Option(help="PKCS #11 library; see intaglio hsm modules.")] = None,
    label: Label = None,
    serial: Serial = None,
    slot: Slot = None,
    sessions: Sessions = None,
    timeout: Timeout = None,
    load_sharing: LoadSharing = None,
    unchecked: Unchecked = False,
) -> None:
    """Change where a token is found or how it is used; every process follows at once."""
    body: dict[str, Any] = {"module": module, "label": label, "serial": serial, "slot": slot, "sessions": sessions}
    body |= {"timeout": timeout, "load_sharing": load_sharing, "check": not unchecked}
    cli.out.result(cli.client.patch(f"/hsm/tokens/{segment(token)}", body), f"{token} is changed.")


@command(token_app, "set-pin", example="intaglio hsm token set-pin main --pin-file pin.txt")
def set_pin(cli: Cli, token: Token, pin_file: PinFile = None, unchecked: Unchecked = False) -> None:
    """Record another PIN, after the token took it. The PIN of the token itself is changed with its own tools."""
    body = {"pin": _pin(pin_file), "check": not unchecked}
    with cli.out.waiting(f"Logging in to {token}"):
        found = cli.client.put(f"/hsm/tokens/{segment(token)}/pin", body)
    cli.out.result(found, f"The PIN of {token} is {found['pin_state']}.")


@command(token_app, "remove", example="intaglio hsm token remove main --yes")
def remove(cli: Cli, token: Token, yes: Yes = False) -> None:
    """Forget a token that no key is in any more. What is in the token stays there."""
    cli.confirm(f"Forget the token {token}?", yes=yes)
    cli.client.delete(f"/hsm/tokens/{segment(token)}")
    cli.out.result({"removed": token}, f"{token} is forgotten.")


@command(app, "check", example=("intaglio hsm check", "intaglio hsm check main --pin-file other-pin.txt"))
def check(
    cli: Cli,
    token: Annotated[str | None, typer.Argument(metavar="[TOKEN]", help="One token; default: all of them.")] = None,
    pin_file: Annotated[str | None, typer.Option(help="File with a PIN to try instead of the recorded one.")] = None,
    debug_level: Annotated[
        int, typer.Option(min=0, max=15, help="CKNFAST_DEBUG of nShield's client; ignored by others.")
    ] = 0,
) -> None:
    """Try the tokens: log in; generate, sign, verify and delete with every kind of key. Exit code 1 if any fails."""
    names = [token] if token else [each["name"] for each in cli.client.get("/hsm/tokens")["items"]]
    if not names:
        cli.out.error("No token is configured.", "Add one: intaglio hsm token add.")
        raise typer.Exit(1)
    pin = read_secret("PIN", file=pin_file, variable="INTAGLIO_HSM_PIN") if pin_file else None
    body = {"pin": pin, "debug_level": debug_level}
    reports = []
    for name in names:
        with cli.out.waiting(f"Trying {name}"):
            reports.append(cli.client.post(f"/hsm/tokens/{segment(name)}/check", body))
        if not cli.out.as_json:
            _print_report(cli, reports[-1])
    good = all(report["ok"] for report in reports)
    if cli.out.as_json:
        cli.out.result(reports)
    else:
        print("Tests passed successfully." if good else "Tests failed.")
    if not good:
        raise typer.Exit(1)


@command(app, "objects", example="intaglio hsm objects main")
def objects(cli: Cli, token: Token) -> None:
    """List everything in a token: kind, type and size, label, id (CKA_ID), usage, and which of our keys it is."""
    columns = {
        "kind": "KIND",
        "type": "TYPE",
        "bits": "BITS",
        "label": "LABEL",
        "id": "ID",
        "usage": "USAGE",
        "protection.extractable": "EXTRACTABLE",
        "key": "KEY",
    }
    cli.out.table(cli.client.get(f"/hsm/tokens/{segment(token)}/objects")["items"], columns, empty="Nothing.")


@command(app, "adopt", example='intaglio hsm adopt main 0a1b2c --label "signing service"')
def adopt(
    cli: Cli,
    token: Token,
    object_id: Annotated[str, typer.Argument(metavar="ID", help="CKA_ID in hexadecimal; see intaglio hsm objects.")],
    label: Annotated[str, typer.Option(help="What the key is for.")],
) -> None:
    """Take a key pair that is in a token already as a private key of this installation."""
    made = cli.client.post(f"/hsm/tokens/{segment(token)}/objects/adopt", {"id": object_id, "label": label})
    cli.out.result(made, f"It is the private key {made['id']} from now on.")


@command(app, "delete-object", example="intaglio hsm delete-object main 0a1b2c --yes")
def delete_object(
    cli: Cli,
    token: Token,
    object_id: Annotated[str, typer.Argument(metavar="ID", help="CKA_ID in hexadecimal; see intaglio hsm objects.")],
    yes: Yes = False,
) -> None:
    """Destroy a key pair in a token that is no private key of this installation."""
    cli.confirm(f"Destroy the key pair {object_id} in {token} for good?", yes=yes)
    found = cli.client.delete(f"/hsm/tokens/{segment(token)}/objects/{segment(object_id)}")
    cli.out.result(found, f"{found['objects']} object(s) destroyed.")


def _pin(file: str | None) -> str:
    return read_secret("PIN", file=file, variable="INTAGLIO_HSM_PIN")


def _print_report(cli: Cli, report: dict[str, Any]) -> None:
    """The slot, then a line for every kind of key with what was done with it."""
    print(f"Token {report['name']}")
    if report["slot"] is not None:
        held = report["slot"]["token"] or {}
        members = {"slot": report["slot"]["slot"]}
        members |= {name: held.get(name) for name in ("label", "serial", "model", "firmware", "manufacturer", "pin")}
        cli.out.members({**members, "description": report["slot"]["description"]})
    lines: dict[str, list[str]] = {}
    for step in report["steps"]:
        outcome = "OK" if step["ok"] else "FAILED"
        detail = f" ({step['detail']})" if step["detail"] else ""
        lines.setdefault(step["about"], []).append(f"{step['what']} {outcome}{detail}")
    for about, done in lines.items():
        print(f"  {about:<12} {', '.join(done)}")
