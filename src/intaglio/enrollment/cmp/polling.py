"""Polling: what became of a request that waits for approval. Source: RFC 9810 section 5.3.22, RFC 9483 section 4.4."""

from __future__ import annotations

from intaglio.asn1 import cmp
from intaglio.asn1.cmp import Body, Failure
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import transactions
from intaglio.enrollment.cmp.certifying import deliver, give_up
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Answer, Exchange
from intaglio.enrollment.values import Waiting


async def poll(exchange: Exchange) -> Answer:
    """Answer a pollReq: with the certificate, its rejection, or when to ask again.

    Raises CmpRefusal: badRequest for what does not wait, and what ``find`` raises.
    """
    asked = cmp.read_poll_request(exchange.message.content)
    enrollment = exchange.cmp.enrollment
    async with enrollment.database.transaction() as tx:
        transaction = await transactions.find(tx, exchange, lock=True)
        if transaction.state != "waiting":
            raise CmpRefusal(Failure.BAD_REQUEST, "Nothing waits in this transaction.")
        if asked != (transaction.request_id,):
            raise CmpRefusal(Failure.BAD_REQUEST, "The poll is about another request than the one that waits.")
        await transactions.move(tx, transaction, "waiting", nonce=exchange.nonce)
    try:
        outcome = await pipeline.collect(enrollment, exchange.endpoint, transaction.key)
    except Unavailable:
        raise
    except IntaglioError as error:
        return await give_up(exchange, transaction, error)
    if isinstance(outcome, Waiting):
        content = cmp.poll_rep(
            transaction.request_id, exchange.options.check_after, "The request waits for approval."
        )
        return Answer(Body.POLLREP, content, outcome="waiting")
    return await deliver(exchange, transaction, outcome)
