"""`intaglio enroll endpoint`: places at which certificates are asked for."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

import typer

from intaglio.cli.client import Client, segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.enroll_urls import shown_commands
from intaglio.cli.files import read_bytes, read_secret
from intaglio.cli.listing import All, Filter, Limit, Sort, listed
from intaglio.core.errors import InvalidInput

app = noun("Endpoints: places at which certificates are asked for.")

Address = Annotated[str, typer.Argument(metavar="ENDPOINT", help="PROTOCOL/NAME, such as est/default.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="Option of the protocol; @FILE is what a file holds, nothing the default; repeat for more. See: intaglio "
        "enroll endpoint options PROTOCOL.",
    ),
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", help="Whence requests may come (CIDR); repeat for more.")
]
Approval = Annotated[str | None, typer.Option(help="automatic, or manual: somebody decides about each request.")]
HourlyLimit = Annotated[int | None, typer.Option(min=0, help="Certificates in an hour; 0: any number.")]
Protocol = Annotated[str, typer.Argument(metavar="PROTOCOL", help="acme, est, scep or cmp.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

#: What JKS and JCEKS files begin with.
_JAVA_STORES = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")


@command(
    app,
    "create",
    example=(
        "intaglio enroll endpoint create --protocol acme --ca demo~issuing --profile privatessl-tls-server",
        "intaglio enroll endpoint create --protocol est --ca demo~issuing --profile est-digital-signature --name "
        "default --option server_keys=true",
    ),
)
def create(
    cli: Cli,
    protocol: Annotated[str, typer.Option("--protocol", "-p", help="acme, est, scep or cmp.")],
    ca: Annotated[str, typer.Option(help="Issuing CA: ORGANIZATION~ID.")],
    profile: Annotated[str, typer.Option(help="Certificate profile that this CA offers for the protocol.")],
    name: Annotated[str | None, typer.Option(help="Its name (label of EST and CMP); made of CA and profile.")] = None,
    tenant: Annotated[str, typer.Option(help="Tenant whose URL it is under.")] = "main",
    option: Options = None,
    network: Networks = None,
    approval: Approval = None,
    hourly_limit: HourlyLimit = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Switch it on later.")] = False,
) -> None:
    """Create an endpoint and say how its clients are told. It answers at once."""
    body: dict[str, Any] = {"protocol": protocol, "ca": ca, "profile": profile, "name": name, "tenant": tenant}
    body |= {"networks": network or [], "enabled": not disabled, "approval": approval or "automatic"}
    body |= {"hourly_limit": hourly_limit or None, "options": _options(cli.client, protocol, option)}
    made = cli.client.post("/enrollment/endpoints", body)
    lines = [f"Created {made['address']}: {made['url']}"]
    if not cli.out.as_json and made["enabled"]:
        lines += shown_commands(cli, made["address"])
    cli.out.result(made, "\n".join(lines))


@command(app, "list", example="intaglio enroll endpoint list --filter protocol=acme")
def list_(cli: Cli, filter: Filter = None, sort: Sort = None, limit: Limit = 100, all: All = False) -> None:
    """List the endpoints."""
    columns = {
        "address": "ENDPOINT",
        "tenant": "TENANT",
        "ca": "CA",
        "profile": "PROFILE",
        "enabled": "ENABLED",
        "approval": "APPROVAL",
        "url": "URL",
    }
    rows = listed(cli, "/enrollment/endpoints", filter, sort, limit, all)
    cli.out.table(rows, columns, empty="None yet. Create one: intaglio enroll endpoint create.")


@command(app, "show", example="intaglio enroll endpoint show acme/issuing-privatessl-tls-server")
def show(cli: Cli, address: Address) -> None:
    """Show an endpoint with its options."""
    cli.out.result(cli.client.get(path_of(address)))


@command(
    app,
    "set",
    example=(
        "intaglio enroll endpoint set est/default --approval manual --network 10.0.0.0/8",
        "intaglio enroll endpoint set est/default --option trusted=@maker.pem --option authentication=certificate",
    ),
)
def set_(
    cli: Cli,
    address: Address,
    option: Options = None,
    network: Networks = None,
    any_network: Annotated[bool, typer.Option("--any-network", help="Requests may come from everywhere.")] = False,
    approval: Approval = None,
    hourly_limit: HourlyLimit = None,
) -> None:
    """Change an endpoint; what is not named stays. It counts on every process at once."""
    body: dict[str, Any] = {"approval": approval, "hourly_limit": hourly_limit}
    if network or any_network:
        body["networks"] = [] if any_network else network
    if option:
        body["options"] = _options(cli.client, address.partition("/")[0], option)
    found = cli.client.patch(path_of(address), {name: value for name, value in body.items() if value is not None})
    cli.out.result(found, f"{found['address']} is at version {found['version']}.")


@command(app, "enable", example="intaglio enroll endpoint enable est/default")
def enable(cli: Cli, address: Address) -> None:
    """Switch an endpoint on."""
    found = cli.client.patch(path_of(address), {"enabled": True})
    cli.out.result(found, f"{found['address']} answers at {found['url']}")


@command(app, "disable", example="intaglio enroll endpoint disable est/default")
def disable(cli: Cli, address: Address) -> None:
    """Switch an endpoint off: its URLs are not there until it is switched on again."""
    found = cli.client.patch(path_of(address), {"enabled": False})
    cli.out.result(found, f"{found['address']} is switched off.")


@command(app, "delete", example="intaglio enroll endpoint delete est/default --yes")
def delete(cli: Cli, address: Address, yes: Yes = False) -> None:
    """Delete an endpoint with its credentials and waiting requests. Certificates stay as they are."""
    cli.confirm(f"Delete the endpoint {address} with its credentials?", yes=yes)
    cli.client.delete(path_of(address))
    cli.out.result({"deleted": address}, f"Deleted {address}.")


@command(app, "options", example="intaglio enroll endpoint options est")
def options(cli: Cli, protocol: Protocol) -> None:
    """List the options that endpoints of a protocol have."""
    schema = cli.client.get(f"/enrollment/options/{segment(protocol)}")
    if cli.out.as_json:
        cli.out.result(schema)
        return
    rows = [
        {"name": name, "default": json.dumps(each.get("default")), "description": each.get("description", "")}
        for name, each in schema.get("properties", {}).items()
    ]
    cli.out.table(rows, {"name": "OPTION", "default": "DEFAULT", "description": "MEANING"}, empty="None.")


def path_of(address: str) -> str:
    """The path of an endpoint in the management API. Raises InvalidInput."""
    protocol, slash, name = address.partition("/")
    if not slash or not protocol or not name:
        raise InvalidInput(
            f'"{address}" is not the address of an endpoint.',
            code="endpoint-address",
            remedy="Write PROTOCOL/NAME, such as est/default; see intaglio enroll endpoint list.",
        )
    return f"/enrollment/endpoints/{segment(protocol)}/{segment(name)}"


def _options(client: Client, protocol: str, given: list[str] | None) -> dict[str, Any]:
    """Options as the API takes them: text as it is, lists of all that was given under a name, anything else JSON."""
    if not given:
        return {}
    schema = client.get(f"/enrollment/options/{segment(protocol)}")
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f'"{text}" is not NAME=VALUE.', code="option-invalid", target="--option")
        kinds = _kinds(schema.get("properties", {}).get(name, {}))
        value = _content(value[1:]) if value.startswith("@") else value
        if value == "":
            found[name] = None
        elif "array" in kinds and not value.startswith("["):
            found[name] = [*found.get(name, []), value]
        else:
            found[name] = value if kinds <= {"string", "null"} else _json(value)
    return found


def _content(path: str) -> str:
    """What is in a file: text as it is, certificates in DER or PKCS #7 in base64, those of a PKCS #12 file in PEM.

    Raises InvalidInput.
    """
    data = read_bytes(path)
    if data[:4] in _JAVA_STORES:
        raise InvalidInput(
            f"{path} is a key store that only Java reads.",
            code="file-unreadable",
            remedy=f"Take its certificates out: keytool -list -rfc -keystore {path} >trust.pem",
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _certificates(path, data)


def _certificates(path: str, data: bytes) -> str:
    from intaglio.asn1 import der
    from intaglio.x509.certificates import pem
    from intaglio.x509.pkcs12 import decode_pkcs12

    if data[:1] != b"\x30" or der.Reader(data).enter().peek() != der.INTEGER:
        return base64.b64encode(data).decode()
    found = decode_pkcs12(data, read_secret(f"Password of {path}", file=None, variable="INTAGLIO_STORE_PASSWORD"))
    first = () if found.certificate_der is None else (found.certificate_der,)
    return "".join(pem(each) for each in (*first, *found.chain_ders))


def _kinds(schema: dict[str, Any]) -> set[str]:
    alternatives = schema.get("anyOf", [schema])
    return {str(each.get("type", "object")) for each in alternatives}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
