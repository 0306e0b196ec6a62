"""What was rendered for an ingress, and whether it still says what it should: CAs and settings change, files do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import update

from intaglio.core.clock import rfc3339
from intaglio.db.engine import Transaction
from intaglio.mtls.access import models
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.ingresses.plan import Plan
from intaglio.x509.certificates import CertificateInfo


@dataclass(frozen=True)
class Rendered:
    """When the configuration of an ingress was rendered last (None: never), and ``why`` it is stale, if it is."""

    ingress: str
    at: datetime | None
    why: tuple[str, ...]


async def note_rendering(tx: Transaction, plan: Plan) -> None:
    """Remember whose certificates and which settings the files of a plan have."""
    values = {
        "rendered_at": tx.now,
        "rendered_trust": sorted(each.fingerprint.hex() for each in plan.certificates),
        "rendered_settings": _settings_of(plan.ingress),
    }
    await tx.execute(update(models.ingress).where(models.ingress.c.id == plan.ingress.id).values(**values))


def stale_because(ingress: Ingress, certificates: Iterable[CertificateInfo]) -> list[str]:
    """Why the files that were rendered last are not what would be rendered now; ``certificates`` are those that count.
    Nothing for an ingress for which none were."""
    if ingress.rendered_at is None:
        return []
    then, now = set(ingress.rendered_trust), {each.fingerprint.hex() for each in certificates}
    since = f"since it was rendered at {rfc3339(ingress.rendered_at)}"
    found = []
    if new := len(now - then):
        found.append(f"Its trust bundle lacks {new} CA certificate{'s' * (new > 1)} that came {since}.")
    if gone := len(then - now):
        found.append(f"Its trust bundle has {gone} CA certificate{'s' * (gone > 1)} that ceased to count {since}.")
    if ingress.rendered_settings != _settings_of(ingress):
        found.append(f"Its settings were changed {since}.")
    return found


def _settings_of(ingress: Ingress) -> str:
    """Digest of the settings that files are made from."""
    settings = (
        ingress.type, ingress.mode, ingress.listener, ingress.hosts, ingress.ip_rule, ingress.revocation_source,
        ingress.refresh_seconds, ingress.forward, ingress.fail_mode, ingress.policy,
    )  # fmt: skip
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()
