"""Writing audit records: who, what, which object, outcome, correlation id."""

from __future__ import annotations

from typing import Any, Literal

from intaglio.audit.models import AUDIT
from intaglio.core.logging import correlation_id
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction

Outcome = Literal["success", "refused", "failed"]


def record(
    tx: Transaction,
    principal: Principal,
    action: str,
    object_kind: str,
    object_name: str,
    *,
    outcome: Outcome = "success",
    organization: str | None = None,
    **detail: Any,
) -> None:
    """Add a record to the transaction; it is written and numbered with the change it describes, or not at all.

    ``action`` is ``noun.verb``; ``detail`` holds JSON-safe facts and never a secret.
    """
    tx.append(
        AUDIT,
        row(tx.now, principal, action, object_kind, object_name, outcome=outcome, organization=organization, **detail),
    )


def row(
    at: Any,
    principal: Principal,
    action: str,
    object_kind: str,
    object_name: str,
    *,
    outcome: Outcome = "success",
    organization: str | None = None,
    **detail: Any,
) -> dict[str, Any]:
    """The values of one audit record, without its number."""
    return {
        "at": at,
        "actor_kind": principal.kind,
        "actor": principal.name,
        "action": action,
        "object_kind": object_kind,
        "object": object_name,
        "outcome": outcome,
        "organization": organization,
        "detail": detail,
        "correlation_id": correlation_id.get(),
        "source": principal.source,
    }
