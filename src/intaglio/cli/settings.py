"""`intaglio settings`: live settings, and the boot settings of this host."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.ca_create import parse_options
from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import InvalidInput

app = noun("Live settings, and the boot settings of this host.")


@command(app, "get", example=("intaglio settings get", "intaglio settings get logging.level"))
def get(
    cli: Cli, name: Annotated[str | None, typer.Argument(help="GROUP or GROUP.NAME; all without it.")] = None
) -> None:
    """Show live settings."""
    group, _, field = (name or "").partition(".")
    found = [cli.client.get(f"/settings/{segment(group)}")] if group else cli.client.get("/settings")["items"]
    if field:
        if field not in found[0]["values"]:
            raise InvalidInput(f'There is no setting "{name}".', code="setting-unknown")
        cli.out.result(found[0]["values"][field], str(found[0]["values"][field]))
        return
    rows = [
        {"name": f"{each['name']}.{key}", "value": value, "version": each["version"], "changed_by": each["changed_by"]}
        for each in found
        for key, value in each["values"].items()
    ]
    cli.out.table(rows, {"name": "NAME", "value": "VALUE", "version": "VERSION", "changed_by": "CHANGED BY"})


@command(app, "set", example="intaglio settings set logging.level=DEBUG")
def set_(
    cli: Cli, assignments: Annotated[list[str], typer.Argument(metavar="GROUP.NAME=VALUE...", help="YAML values.")]
) -> None:
    """Change live settings; every process uses them at once."""
    changed: list[Any] = []
    for group, values in parse_options(assignments).items():
        if not isinstance(values, dict):
            raise InvalidInput(f'"{group}" is a group of settings.', remedy="Write GROUP.NAME=VALUE.")
        changed.append(cli.client.patch(f"/settings/{segment(group)}", {"values": values}))
    cli.out.result(changed, "\n".join(f"{each['name']} is at version {each['version']}." for each in changed))


@command(app, "boot", example="intaglio settings boot", local=True)
def boot(cli: Cli) -> None:
    """Show the boot settings of this host as they are in force, with how each is set."""
    from intaglio.core.settings import Settings

    values = cli.settings.model_dump(mode="json")
    rows = [
        {
            "name": name,
            "value": values[name],
            "variable": f"INTAGLIO_{name.upper()}",
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
    cli.out.table(rows, {"name": "NAME", "value": "VALUE", "variable": "VARIABLE", "description": "MEANING"})
