"""`intaglio mtls pipeline`: identities of jobs and pods, proved by the tokens of their platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.files import read_text
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Pipelines: whose identity tokens prove which identity.")

Name = Annotated[str, typer.Argument(help="Its name.")]


@command(
    app,
    "add",
    example=(
        "intaglio mtls pipeline add shop-deploy --identity pipeline:shop-deploy "
        "--issuer https://token.actions.githubusercontent.com --audience https://pki.example "
        "--condition sub=repo:acme/shop:ref:refs/heads/main --lifetime PT30M",
    ),
)
def add(
    cli: Cli,
    name: Name,
    identity: Annotated[str, typer.Option(help="Who its jobs are: KIND:NAME or KIND:NAME@DOMAIN.")],
    issuer: Annotated[str, typer.Option(help="Issuer of the tokens, as they say it.")],
    audience: Annotated[str, typer.Option(help="Audience that the tokens are made for.")],
    condition: Annotated[
        list[str], typer.Option(help="CLAIM=VALUE, with a * at the end after / : . or -; repeat for more.")
    ],
    lifetime: Annotated[str | None, typer.Option(help="How long a job may take, such as PT30M.")] = None,
    jwks_url: Annotated[str, typer.Option(help="Where its keys are, if discovery does not say.")] = "",
    issuer_ca: Annotated[str, typer.Option(help="File with the CA of its server (PEM), if a private one.")] = "",
    end_with_token: Annotated[
        bool, typer.Option("--end-with-token", help="No certificate outlives the token it was got with.")
    ] = False,
    token_uses: Annotated[
        int, typer.Option(help="How often one token counts; 0 until it expires, for agents in pods.", min=0, max=1000)
    ] = 1,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the pipeline of this name.")] = False,
) -> None:
    """Bind identity tokens to an identity. All claims that are named must fit; for each, one value is enough."""
    body = {
        "identity": identity,
        "issuer": issuer,
        "audience": audience,
        "conditions": _conditions(condition),
        "lifetime": lifetime,
        "jwks_url": jwks_url,
        "issuer_ca": read_text(issuer_ca) if issuer_ca else "",
        "end_with_token": end_with_token,
        "token_uses": token_uses,
    }
    if replace:
        found = cli.client.put(_path(name), body)
    else:
        found = cli.client.post("/mtls/v1/pipelines", {"name": name, **body})
    cli.out.result(found, f"Tokens of {found['issuer']} prove {found['identity']}, for {found['lifetime']} each.")


@command(app, "list", example="intaglio mtls pipeline list")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List pipelines by name."""
    columns = {
        "name": "NAME", "identity": "IDENTITY", "issuer": "ISSUER", "conditions": "CONDITIONS", "lifetime": "LIFETIME",
        "uses": "USED", "used_at": "LAST",
    }  # fmt: skip
    empty = "No pipelines. Bind one with: intaglio mtls pipeline add NAME --identity pipeline:NAME ..."
    cli.out.table(listed(cli, "/mtls/v1/pipelines", filter, sort, limit, all), columns, empty=empty)


@command(app, "show", example="intaglio mtls pipeline show shop-deploy")
def show(cli: Cli, name: Name) -> None:
    """Show a pipeline."""
    cli.out.result(cli.client.get(_path(name)))


@command(app, "remove", example="intaglio mtls pipeline remove shop-deploy --yes")
def remove(
    cli: Cli, name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Let its tokens count no more. Certificates go on until they end; revoke those that must not."""
    cli.confirm(f"Remove the pipeline {name}?", yes=yes)
    cli.client.delete(_path(name))
    cli.out.result({"removed": name}, f"Removed {name}.")


@command(
    app,
    "certificate",
    example=(
        "intaglio mtls pipeline certificate shop-deploy --jwt-file token --server https://pki.example:1443 --out tls",
    ),
    local=True,
)
def certificate(
    cli: Cli,
    name: Name,
    jwt_file: Annotated[Path, typer.Option(help="File with the identity token of the job.")],
    server: Annotated[str, typer.Option(help="URL of the enrolment listener: https://HOST:1443.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for key and certificate.")],
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="CA that vouches for the server (PEM); else the system's.")
    ] = None,
) -> None:
    """Get a certificate inside a job. Key and certificate are in OUT/current: tls.crt, tls.key, ca.crt."""
    from intaglio.mtls.automation.agent.keeper import Keeper
    from intaglio.mtls.automation.agent.options import Options

    keeper = Keeper(Options(server=server, out=out, ca_file=ca_file, jwt_file=jwt_file, pipeline=name))
    keeper.run(once=True)
    assert keeper.version is not None
    cli.out.result(
        {"identity": keeper.version.identity, "serial": keeper.version.serial, "directory": str(out / "current")},
        f"{out / 'current'} is {keeper.version.identity}.",
    )


def _conditions(given: list[str]) -> dict[str, list[str]]:
    """Values by claim. Raises InvalidInput."""
    from intaglio.core.errors import InvalidInput

    found: dict[str, list[str]] = {}
    for text in given:
        claim, equals, value = text.partition("=")
        if not equals or not claim or not value:
            raise InvalidInput(f'"{text}" is no condition.', remedy="Write CLAIM=VALUE.", target="--condition")
        found.setdefault(claim.strip(), []).append(value.strip())
    return found


def _path(name: str) -> str:
    return f"/mtls/v1/pipelines/{segment(name)}"
