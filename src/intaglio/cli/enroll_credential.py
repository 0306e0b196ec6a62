"""`intaglio enroll credential`: what applicants prove themselves with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.enroll_endpoint import Address, path_of
from intaglio.cli.files import read_text, require_absent, write_private
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Passwords, shared secrets and challenges of endpoints.")

_KIND_OF = {"acme": "eab", "est": "password", "scep": "challenge", "cmp": "mac"}
Kind = Annotated[
    str | None,
    typer.Option(
        help="password (EST), eab (ACME), mac (CMP); of SCEP challenge (for many), one-time, derived or webhook."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app,
    "create",
    example=(
        "intaglio enroll credential create est/default --name router-7",
        "intaglio enroll credential create scep/phones --kind one-time --subject CN=phone-7 --out challenge.txt",
    ),
)
def create(
    cli: Cli,
    address: Address,
    kind: Kind = None,
    name: Annotated[str | None, typer.Option(help="User, key id or reference; made up when left out.")] = None,
    secret_file: Annotated[str | None, typer.Option(help="File with the secret; one is made without it.")] = None,
    subject: Annotated[str | None, typer.Option(help="The only subject that it may ask for.")] = None,
    san: Annotated[
        list[str] | None, typer.Option(help="The only names that it may ask for, TYPE=VALUE; repeat for more.")
    ] = None,
    uses: Annotated[int | None, typer.Option(min=1, help="How often it may be used; any number without it.")] = None,
    not_after: Annotated[str | None, typer.Option(help="Until when it is good, such as 2027-01-31T12:00:00Z.")] = None,
    url: Annotated[str | None, typer.Option(help="Of a webhook: where it is asked (https).")] = None,
    ca_certificate: Annotated[str | None, typer.Option(help="Of a webhook: file with the CA of its server.")] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="File for the secret, not shown then.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Create a credential. Its secret is shown this once."""
    require_absent(out, force=force)  # a secret that cannot be written is lost
    body: dict[str, Any] = {"kind": kind or _KIND_OF.get(address.partition("/")[0]), "name": name, "uses": uses}
    bound = {"subject": subject, "sans": [_pair(each) for each in san or []]}
    body |= {"not_after": not_after, "url": url, "bound": bound}
    body["secret"] = None if secret_file is None else read_text(secret_file).strip()
    body["ca_certificate"] = None if ca_certificate is None else read_text(ca_certificate)
    made = cli.client.post(f"{path_of(address)}/credentials", body)
    secret = made["secret"]
    if out is not None and secret:
        write_private(out, secret + "\n", force=force)
        made = {**made, "secret": "", "file": out}
    text = f"Created {made['kind']} {made['name']} of {address}."
    if secret:
        text += f" Secret: {secret}" if out is None else f" Its secret is in {out}."
    cli.out.result(made, text)


@command(app, "list", example="intaglio enroll credential list est/default")
def list_(
    cli: Cli, address: Address, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False
) -> None:
    """List the credentials of an endpoint; secrets are not shown."""
    columns = {
        "kind": "KIND",
        "name": "NAME",
        "bound.subject": "SUBJECT",
        "uses_left": "USES LEFT",
        "not_after": "NOT AFTER",
        "used_at": "USED",
        "created_by": "CREATED BY",
    }
    rows = listed(cli, f"{path_of(address)}/credentials", filter, sort, limit, all)
    cli.out.table(rows, columns, empty="None yet. Create one: intaglio enroll credential create.")


@command(app, "delete", example="intaglio enroll credential delete est/default router-7 --yes")
def delete(
    cli: Cli,
    address: Address,
    name: Annotated[str, typer.Argument(metavar="NAME", help="See intaglio enroll credential list.")],
    kind: Kind = None,
    yes: Yes = False,
) -> None:
    """Delete a credential. It counts no longer at once; what was issued with it stays."""
    cli.confirm(f"Delete {name} of {address}?", yes=yes)
    kind = kind or _KIND_OF.get(address.partition("/")[0], "")
    cli.client.delete(f"{path_of(address)}/credentials/{segment(kind)}/{segment(name)}")
    cli.out.result({"deleted": name}, f"Deleted {name}.")


def _pair(text: str) -> list[str]:
    kind, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f'"{text}" is not TYPE=VALUE, such as dns=www.example.com.', code="option-invalid")
    return [kind, value]
