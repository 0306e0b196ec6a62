"""`intaglio mtls agent`: the agent that keeps certificates fresh, and the tokens it begins with."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("The agent that keeps the certificate of an identity fresh, and the tokens it begins with.")

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for key and certificate.")]


@command(
    app,
    "run",
    example=(
        "intaglio mtls agent run --server https://pki.example:1443 --ca-file platform-ca.pem "
        "--identity service:payments --token-file token --out /run/payments --reload 'systemctl reload nginx'",
        "intaglio mtls agent run --server https://pki.example:1443 --out payments --once",
    ),
    local=True,
)
def run(
    cli: Cli,
    server: Annotated[str, typer.Option(help="URL of the enrolment listener: https://HOST:1443.")],
    out: Out,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="CA that vouches for the server (PEM); else the system's.")
    ] = None,
    identity: Annotated[str, typer.Option(help="Who it shall be: NAME or KIND:NAME; nobody else is accepted.")] = "",
    token_file: Annotated[Path | None, typer.Option(help="File with a bootstrap token, for the first time.")] = None,
    jwt_file: Annotated[
        Path | None, typer.Option(help="File with an identity token, such as a Kubernetes service account's.")
    ] = None,
    pipeline: Annotated[str, typer.Option(help="Pipeline by which the identity token counts.")] = "",
    reload: Annotated[str, typer.Option(help="Command to run after each change; no shell reads it.")] = "",
    reload_timeout: Annotated[float, typer.Option(help="Seconds it may take.")] = 60.0,
    lifetime: Annotated[str, typer.Option(help="Such as PT12H; what the trust domain gives otherwise.")] = "",
    dns: Annotated[list[str] | None, typer.Option(help="DNS name below a registered one; repeat for more.")] = None,
    combined: Annotated[bool, typer.Option("--combined", help="Write tls.pem too: certificate and key.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Refuse a folder that is not in memory (tmpfs).")] = False,
    metrics: Annotated[str, typer.Option(help="Loopback address for Prometheus: 127.0.0.1:9750.")] = "",
    metrics_file: Annotated[Path | None, typer.Option(help="File for the textfile collector.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End once the certificate is fresh.")] = False,
) -> None:
    """Keep the certificate of an identity fresh: the key is made here and stays here.

    SIGTERM ends it, SIGHUP makes it renew at once. Whatever fails, the last good certificate stays in place.
    """
    from intaglio.mtls.automation.agent.keeper import Keeper
    from intaglio.mtls.automation.agent.options import Options, command_of, loopback

    options = Options(
        server=server,
        out=out,
        ca_file=ca_file,
        identity=identity,
        token_file=token_file,
        jwt_file=jwt_file,
        pipeline=pipeline,
        reload=command_of(reload),
        reload_timeout=reload_timeout,
        lifetime=lifetime,
        dns_names=tuple(dns or ()),
        combined=combined,
        in_memory=memory,
        metrics=loopback(metrics) if metrics else None,
        metrics_file=metrics_file,
    )
    keeper = Keeper(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: keeper.stop())
    signal.signal(signal.SIGHUP, lambda *_: keeper.renew_now())
    keeper.run(once=once)


@command(app, "status", example="intaglio mtls agent status --out /run/payments", local=True)
def status(cli: Cli, out: Out) -> None:
    """Say how the agent of a folder is doing. Exit status: 0 good, 1 renewal overdue or reload failing, 2 ends soon,
    expired or refused, 3 no certificate."""
    from intaglio.mtls.automation.agent.status import status as read

    told, code = read(out)
    cli.out.result(told)
    sys.exit(code)


@command(
    app,
    "token",
    example=(
        "intaglio mtls agent token service:payments > token",
        "intaglio mtls agent token service:payments --purpose approle --unlimited --hours 720",
    ),
)
def token(
    cli: Cli,
    identity: Annotated[str, typer.Argument(help="Id, NAME, KIND:NAME or KIND:NAME@DOMAIN.")],
    purpose: Annotated[str, typer.Option(help="sign for agents, approle for clients of Vault.")] = "sign",
    uses: Annotated[int, typer.Option(min=1, help="How often it is good.")] = 1,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Any number of uses (approle only).")] = False,
    hours: Annotated[int | None, typer.Option(min=1, help="How long; as the settings say otherwise.")] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network it may be used from, such as 10.1.0.0/16; repeat for more.")
    ] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a bootstrap token. It is printed once; whoever has it is the identity until it is used."""
    body = {
        "identity": identity,
        "purpose": purpose,
        "max_uses": 0 if unlimited else uses,
        "hours": hours,
        "networks": network or [],
        "note": note,
    }
    found = cli.client.post("/mtls/v1/bootstrap-tokens", body)
    cli.out.result(found, found["token"])
    cli.out.note(f"Good until {found['expires_at']}; `intaglio mtls agent revoke-token {found['handle']}` ends it.")


@command(app, "tokens", example="intaglio mtls agent tokens --filter state=usable")
def tokens(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List bootstrap tokens, newest first."""
    columns = {
        "handle": "HANDLE", "identity": "IDENTITY", "purpose": "PURPOSE", "state": "STATE", "uses": "USED",
        "expires_at": "EXPIRES", "created_by": "BY",
    }  # fmt: skip
    empty = "No bootstrap tokens. Make one with: intaglio mtls agent token IDENTITY"
    cli.out.table(listed(cli, "/mtls/v1/bootstrap-tokens", filter, sort, limit, all), columns, empty=empty)


@command(app, "revoke-token", example="intaglio mtls agent revoke-token 4mJ2kQ9xTb1Z")
def revoke_token(cli: Cli, token: Annotated[str, typer.Argument(help="Its handle or id.")]) -> None:
    """End a bootstrap token, and the logins that rest on it."""
    from intaglio.cli.client import segment  # which brings an HTTP client that an agent does not need

    found = cli.client.post(f"/mtls/v1/bootstrap-tokens/{segment(token)}/revoke")
    cli.out.result(found, f"Revoked the bootstrap token {found['handle']} of {found['identity']}.")
