"""Reading issuers and signers from their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

from intaglio.authority import models as authority_models
from intaglio.core.errors import NotFound
from intaglio.db.engine import Transaction
from intaglio.timestamping.models import timestamp_issuer, timestamp_key, timestamp_signer
from intaglio.timestamping.values import IssuerRecord, SignerKey, SignerOptions, SignerRecord, TokenProfile


async def load_issuers(view: Transaction) -> list[IssuerRecord]:
    """All issuers by name."""
    rows = await view.all(select(timestamp_issuer).order_by(timestamp_issuer.c.name))
    signers = await load_signers(view)
    return [_issuer(row, signers[row["signer_id"]]) for row in rows]


async def load_issuer(view: Transaction, name: str, *, lock: bool = False) -> IssuerRecord:
    """One issuer; ``lock`` holds its row and that of its signer until the end of the transaction. Raises NotFound."""
    query = select(timestamp_issuer).where(timestamp_issuer.c.name == name)
    row = await view.one_or_none(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f'There is no timestamp issuer "{name[:100]}".', code="timestamp-issuer-unknown", target="name")
    return _issuer(row, await load_signer(view, row["signer_id"], lock=lock))


async def load_signer(view: Transaction, signer_id: UUID, *, lock: bool = False) -> SignerRecord:
    """One signer; ``lock`` holds its row until the end of the transaction."""
    query = select(timestamp_signer).where(timestamp_signer.c.id == signer_id)
    row = await view.one_or_none(query.with_for_update() if lock else query)
    assert row is not None, "issuers refer to signers by a foreign key"
    return _signer(row, await view.all(_keys().where(timestamp_key.c.signer_id == signer_id)))


async def load_signers(view: Transaction) -> dict[UUID, SignerRecord]:
    """All signers by id."""
    keys: dict[UUID, list[Mapping[Any, Any]]] = {}
    for row in await view.all(_keys()):
        keys.setdefault(row["signer_id"], []).append(row)
    rows = await view.all(select(timestamp_signer))
    return {row["id"]: _signer(row, keys.get(row["id"], ())) for row in rows}


async def issuers_sharing(view: Transaction, signer_id: UUID) -> list[str]:
    """Names of the issuers that have this signer."""
    c = timestamp_issuer.c
    return [row["name"] for row in await view.all(select(c.name).where(c.signer_id == signer_id).order_by(c.name))]


def _keys() -> Select[Any]:
    """Keys in use or waiting, with the status of certificates that our CAs issued."""
    certificate = authority_models.certificate
    joined = timestamp_key.outerjoin(certificate, certificate.c.id == timestamp_key.c.certificate_id)
    return (
        select(timestamp_key, certificate.c.status)
        .select_from(joined)
        .where(timestamp_key.c.state.in_(("current", "pending")))
    )


def _issuer(row: Mapping[Any, Any], signer: SignerRecord) -> IssuerRecord:
    return IssuerRecord(
        row["id"],
        row["name"],
        row["enabled"],
        TokenProfile.model_validate(row["profile"]),
        signer,
        row["version"],
        row["created_by"],
        row["created_at"],
        row["changed_at"],
    )


def _signer(row: Mapping[Any, Any], keys: Sequence[Mapping[Any, Any]]) -> SignerRecord:
    by_state = {key["state"]: _key(key) for key in keys}
    options = SignerOptions.model_validate(row["options"])
    return SignerRecord(
        row["id"], row["kind"], row["ca_id"], options, by_state.get("current"), by_state.get("pending")
    )


def _key(row: Mapping[Any, Any]) -> SignerKey:
    return SignerKey(
        row["id"],
        row["signer_id"],
        row["state"],
        row["key_id"],
        row["request"],
        row["certificate"],
        tuple(row["chain"]),
        row["certificate_id"],
        row["not_before"],
        row["not_after"],
        row["status"] or "valid",
    )
