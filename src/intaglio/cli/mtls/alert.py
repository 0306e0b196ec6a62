"""`intaglio mtls alert`: what is wrong, who was told, and the proof that telling works."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.listing import All, Filter, Limit, Sort, listed

app = noun("Alerts: what is wrong, who was told, and the proof that telling works.")

Org = Annotated[str, typer.Option("--org", help="Organization.")]
Id = Annotated[str, typer.Argument(metavar="ALERT", help="Id of an alert.")]
Kind = Annotated[
    str,
    typer.Argument(
        help="no-certificate, expired-attempt, unknown-ca, unusual-volume, expiry, revoked-attempt, rotation-failing, "
        "key-received, new-network, drill-failed."
    ),
]


@command(app, "list", example="intaglio mtls alert list --org demo --filter state=open")
def list_(cli: Cli, org: Org, filter: Filter = None, sort: Sort = None, limit: Limit = 50, all: All = False) -> None:
    """List alerts, newest first."""
    columns = {
        "id": "ALERT", "severity": "SEVERITY", "kind": "KIND", "subject": "ABOUT", "ingress": "INGRESS",
        "count": "TIMES", "last_seen": "LAST SEEN", "state": "STATE", "trouble": "NOT DELIVERED BECAUSE",
    }  # fmt: skip
    rows = listed(cli, "/mtls/v1/alerts", filter, sort or "-id", limit, all, organization=org)
    cli.out.table(rows, columns, empty="No alerts.")


@command(app, "ack", example="intaglio mtls alert ack 019a0000-0000-7000-8000-000000000000")
def ack(cli: Cli, alert: Id) -> None:
    """Acknowledge an alert: somebody is looking after it."""
    _change(cli, alert, "acknowledged")


@command(app, "close", example="intaglio mtls alert close 019a0000-0000-7000-8000-000000000000")
def close(cli: Cli, alert: Id) -> None:
    """Close an alert. What goes on opens a new one."""
    _change(cli, alert, "closed")


@command(
    app,
    "mute",
    example="intaglio mtls alert mute no-certificate --org demo --until 2026-12-24T00:00:00Z --reason 'Scanner week'",
)
def mute(
    cli: Cli,
    kind: Kind,
    org: Org,
    until: Annotated[str, typer.Option(help="End, RFC 3339, within 31 days; a time that is past ends it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Tell nobody of a kind for a while. It is still counted; no kind can be silenced for good."""
    body = {"organization": org, "until": until, "reason": reason}
    made = cli.client.put(f"/mtls/v1/alerts/kinds/{segment(kind)}/mute", body)
    cli.out.result(made, f"{made['kind']} is muted until {made['until']}.")


@command(app, "test", example="intaglio mtls alert test unknown-ca --org demo")
def test(cli: Cli, kind: Kind, org: Org) -> None:
    """Fire a kind of alert end to end, over every channel that is set, and keep the proof."""
    with cli.out.waiting("Firing ..."):
        made = cli.client.post(f"/mtls/v1/alerts/kinds/{segment(kind)}/test", {"organization": org})
    cli.out.result(made, f"{made['kind']} arrived over {', '.join(made['channels'])}.")


@command(app, "prometheus-rules", example="intaglio mtls alert prometheus-rules", local=True)
def prometheus_rules(cli: Cli) -> None:
    """Print alerting rules for Prometheus, which scrapes the listener `health`."""
    rules = resources.files("intaglio.mtls.observation").joinpath("prometheus-rules.yaml").read_text()
    cli.out.result({"rules": rules}, rules.rstrip("\n"))


@command(app, "webhook-secret", example="intaglio mtls alert webhook-secret")
def webhook_secret(cli: Cli) -> None:
    """Show the key with which a webhook verifies the header Intaglio-Signature (HMAC-SHA256 over the body)."""
    found = cli.client.get("/mtls/v1/alerts/webhook-secret")
    cli.out.result(found, found["secret"])


def _change(cli: Cli, alert: str, state: str) -> None:
    found = cli.client.put(f"/mtls/v1/alerts/{segment(alert)}", {"state": state})
    cli.out.result(found, f"The alert {found['kind']} is {found['state']}.")
