"""Transactions: one row each, so that any process answers any message of it, and no id is used twice.

A row is written before anything is issued. It outlives its transaction by as long as an old message could be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.asn1.cmp import Failure
from intaglio.core import clock
from intaglio.core.identifiers import new_id
from intaglio.db.engine import Transaction as DatabaseTransaction
from intaglio.enrollment import credentials
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Exchange
from intaglio.enrollment.cmp.models import cmp_transaction as table

State = Literal["waiting", "unconfirmed", "unwanted", "closed"]

#: How long the id of a message that does not say its time is remembered: nothing else tells a repetition of it.
REMEMBERED_WITHOUT_TIME: Final = timedelta(days=30)
#: How long a request may wait for approval.
WAITS: Final = timedelta(days=30)
_SHORTEST: Final = timedelta(minutes=15)
_UNDER_WAY: Final = ("waiting", "unconfirmed")


@dataclass(frozen=True)
class Transaction:
    """A transaction as it is stored."""

    id: UUID
    endpoint_id: UUID
    transaction_id: bytes
    state: State
    applicant: str
    identity: bytes = field(repr=False)
    body: int
    request_id: int
    nonce: bytes | None = field(repr=False)
    implicit: bool
    encrypted: bool
    serial: bytes | None
    previous_serial: bytes | None
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Transaction:
        return cls(**{column.name: row[column.name] for column in table.c})

    @property
    def key(self) -> str:
        """What the transaction is called where certificates are issued: equal keys get equal certificates."""
        return f"cmp:{self.id}"


async def begin(
    exchange: Exchange,
    request_id: int,
    state: State,
    *,
    previous_serial: bytes | None = None,
    implicit: bool = False,
    encrypted: bool = False,
    spends: bool = True,
) -> Transaction:
    """Take the transaction id of a request, and with ``spends`` a use of the secret that protects it. ``state`` is
    closed when no further message is expected.

    Raises CmpRefusal: transactionIdInUse; systemUnavail when as many transactions are under way as the endpoint keeps.
    Raises Unauthenticated (``credential-used-up``).
    """
    now = clock.now().replace(microsecond=0)
    values = {
        "id": new_id(),
        "endpoint_id": exchange.endpoint.id,
        "transaction_id": exchange.transaction_id,
        "state": state,
        "applicant": exchange.sender.applicant.name,
        "identity": exchange.sender.identity,
        "body": int(exchange.message.body),
        "request_id": request_id,
        "nonce": exchange.nonce,
        "implicit": implicit,
        "encrypted": encrypted,
        "serial": None,
        "previous_serial": previous_serial,
        "created_at": now,
        "expires_at": now + _kept_for(exchange, state),
    }
    secret = exchange.sender.secret
    limited = spends and secret is not None and secret.limited
    if state == "closed" and not limited:
        fresh = await exchange.cmp.fresh_ids.take(values)
    else:
        async with exchange.cmp.enrollment.database.transaction() as tx:
            if state in _UNDER_WAY:
                await _require_room(tx, exchange)
            taken = upsert(table).values(**values).on_conflict_do_nothing().returning(table.c.id)
            fresh = await tx.scalar(taken) is not None
            if fresh and limited and secret is not None:
                await credentials.spend(tx, secret.id)
    if not fresh:
        raise CmpRefusal(
            Failure.TRANSACTION_ID_IN_USE,
            "A transaction with this id is under way, or was not long ago.",
            remedy="Begin a new transaction.",
        )
    exchange.progress.begun = True
    return Transaction.of(values)


async def find(view: DatabaseTransaction, exchange: Exchange, *, lock: bool = False) -> Transaction:
    """The transaction that a later message belongs to, if the same party sent it in time, in answer to our last one.

    Raises CmpRefusal: badRequest for a transaction that this party has not begun here, or not any more;
    badRecipientNonce.
    """
    query = select(table).where(
        table.c.endpoint_id == exchange.endpoint.id,
        table.c.identity == exchange.sender.identity,
        table.c.transaction_id == exchange.transaction_id,
    )
    row = await view.one_or_none(query.with_for_update() if lock else query)
    if row is None or (row["state"] in _UNDER_WAY and row["expires_at"] <= view.now):
        raise CmpRefusal(
            Failure.BAD_REQUEST,
            "You have no such transaction under way.",
            remedy="Protect all messages of a transaction the same way, or begin a new one.",
        )
    found = Transaction.of(row)
    if exchange.message.header.recipient_nonce != found.nonce and not exchange.options.excludes("recipient-nonce"):
        raise CmpRefusal(Failure.BAD_RECIPIENT_NONCE, "recipNonce is not the nonce of our last message.")
    return found


async def move(
    tx: DatabaseTransaction,
    transaction: Transaction,
    state: State,
    *,
    nonce: bytes | None = None,
    serial: bytes | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Note where a transaction stands now; what is None stays."""
    changes = {"nonce": nonce, "serial": serial, "expires_at": expires_at}
    given = {name: value for name, value in changes.items() if value is not None}
    await tx.execute(update(table).where(table.c.id == transaction.id).values(state=state, **given))


async def end_unconfirmed(
    tx: DatabaseTransaction, transaction: Transaction, state: State, *, nonce: bytes, expires_at: datetime
) -> None:
    """End a transaction that waits to be confirmed. Raises CmpRefusal (badRequest) when it ended meanwhile, so that a
    certificate is never confirmed and revoked at once."""
    ended = (
        update(table)
        .where(table.c.id == transaction.id, table.c.state == "unconfirmed")
        .values(state=state, nonce=nonce, expires_at=expires_at)
    )
    if await tx.scalar(ended.returning(table.c.id)) is None:
        raise CmpRefusal(Failure.BAD_REQUEST, "The transaction has ended meanwhile.")


async def unwanted(tx: DatabaseTransaction, limit: int) -> list[Transaction]:
    """Transactions whose certificate is to be revoked, those included that nobody confirmed in time."""
    late = update(table).where(table.c.state == "unconfirmed", table.c.expires_at <= tx.now)
    await tx.execute(late.values(state="unwanted"))
    rows = await tx.all(select(table).where(table.c.state == "unwanted", table.c.expires_at <= tx.now).limit(limit))
    return [Transaction.of(row) for row in rows]


async def forget(tx: DatabaseTransaction, limit: int) -> int:
    """Drop transactions that are long over; returns how many."""
    over = select(table.c.id).where(table.c.state.in_(("waiting", "closed")), table.c.expires_at <= tx.now).limit(limit)
    return (await tx.execute(delete(table).where(table.c.id.in_(over)))).rowcount


async def _require_room(tx: DatabaseTransaction, exchange: Exchange) -> None:
    most = exchange.options.transactions
    count = select(func.count()).where(table.c.endpoint_id == exchange.endpoint.id, table.c.state.in_(_UNDER_WAY))
    if most == 0:
        raise CmpRefusal(
            Failure.BAD_REQUEST,
            "Transactions of several messages are switched off here.",
            remedy="Ask for implicit confirmation.",
        )
    if int(await tx.scalar(count)) >= most:
        raise CmpRefusal(
            Failure.SYSTEM_UNAVAIL,
            f"{most} transactions are under way, as many as are kept.",
            remedy="Try again later.",
        )


def _kept_for(exchange: Exchange, state: State) -> timedelta:
    if state == "waiting":
        return WAITS
    return confirmed_within(exchange) if state == "unconfirmed" else remembered(exchange)


def confirmed_within(exchange: Exchange) -> timedelta:
    """How long a client has to confirm a certificate."""
    return timedelta(seconds=exchange.options.confirm_within)


def remembered(exchange: Exchange) -> timedelta:
    """How long the id of a transaction that is over cannot be used again."""
    if exchange.message.header.message_time is None or exchange.options.excludes("message-time"):
        return REMEMBERED_WITHOUT_TIME
    return max(_SHORTEST, timedelta(seconds=2 * exchange.options.message_time_window))
