"""The root of the command: a table of nouns and verbs whose modules are imported only when they are used."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio import __version__
from intaglio.cli import lazy
from intaglio.cli.connection import Connection

COMMANDS: lazy.Table = {
    "init": ("init", "Prepare the data folder: master key, database, first administrator."),
    "serve": ("serve", "Run everything: listeners, workers, jobs and the embedded database."),
    "status": ("status", "Say how the server is doing."),
    "login": ("session:login", "Log in to a server; sets the password after a one-time secret."),
    "logout": ("session:logout", "End the login."),
    "whoami": ("session:whoami", "Say who is asking and what he may do."),
    "org": ("org", "Organizations and their members."),
    "ca": ("ca", "Certificate authorities."),
    "cert": ("cert", "Certificates: issue, look up, revoke, renew."),
    "subject": ("subject", "All certificates of one subject."),
    "credential": ("credential", "Client certificates of the CA gateway."),
    "keytool": ("keytool", "Keys, requests, certificates and PKCS #12 files, without a server."),
    "mtls": ("mtls", "Mutual TLS identity: who may connect, proved by certificates."),
    "enroll": ("enroll", "Enrolment by ACME, EST, SCEP and CMP: endpoints, credentials, requests."),
    "acme": ("acme", "ACME: accounts and orders."),
    "scep": ("scep", "SCEP: registration authorities."),
    "crl": ("crl", "Certificate revocation lists."),
    "ocsp": ("ocsp", "Certificate status of any CA: authorities, sources, signers, questions."),
    "tsa": ("tsa", "Timestamps: issuers, the clock, stamping and verifying files."),
    "profile": ("profile", "Certificate profiles."),
    "user": ("user", "Users."),
    "role": ("role", "Roles and permissions."),
    "token": ("token", "API tokens."),
    "audit": ("audit", "The audit trail and its proof."),
    "settings": ("settings", "Live settings."),
    "tls": ("tls", "Server certificates of the listeners."),
    "key": ("key", "Private keys and the master key."),
    "hsm": ("hsm", "Hardware security modules and other tokens (PKCS #11)."),
    "db": ("db", "The database: check, migrate, address."),
    "apply": ("declare:apply", "Make the installation what a YAML file declares."),
    "export": ("declare:export", "Write the installation as a YAML file for apply."),
    "completion": ("completion", "Print the completion script of a shell."),
    "dev": ("dev", "Chores for developers."),
}


app = typer.Typer(
    cls=lazy.of(COMMANDS),
    name="intaglio",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Intaglio, an open PKI platform. Talks to the server on this host over its unix socket; with --server to "
    "another one. Start with: intaglio init, intaglio serve.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"intaglio {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    server: Annotated[str | None, typer.Option(help="URL of a server, such as https://pki.example:8443.")] = None,
    token_file: Annotated[str | None, typer.Option(help="File with an API token (or INTAGLIO_TOKEN).")] = None,
    ca_file: Annotated[str | None, typer.Option(help="CA certificate (PEM) that the server must chain to.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    data_dir: Annotated[str | None, typer.Option(help="Data folder of the server on this host.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = Connection(server=server, token_file=token_file, ca_file=ca_file, json=json_output, data_dir=data_dir)


def run() -> None:
    """Run the command line of this process."""
    app()
