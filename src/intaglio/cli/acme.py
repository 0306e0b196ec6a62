"""`intaglio acme`: accounts and orders."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "account": ("acme_account", "Accounts: who orders certificates."),
    "order": ("acme_order", "Orders: what was asked for, and how far it has got."),
}

app = lazy.noun(COMMANDS, "ACME: its accounts and orders. Endpoints and external accounts: intaglio enroll.")
