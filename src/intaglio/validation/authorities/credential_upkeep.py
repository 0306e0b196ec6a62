"""Client credentials that renew themselves, whoever certifies them: our own CAs, or others by EST."""

from __future__ import annotations

import asyncio

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM
from intaglio.core.troubles import Troubles
from intaglio.validation.authorities import credentials, est_credentials, issued_credentials
from intaglio.validation.authorities.issued_credentials import renew_at
from intaglio.validation.context import Validation

log = get_logger(__name__)

_PASS_SECONDS = 60.0
_troubles = Troubles(interval=3_600)


async def run_credential_upkeep(validation: Validation) -> None:
    """Renew until cancelled. A task of its own: servers of others may take their time."""
    while True:
        try:
            await renew_due(validation)
        except Exception as error:
            if _troubles.worth_reporting("upkeep"):
                expected = isinstance(error, IntaglioError)
                log.error("client credentials have to wait", reason=str(error), exc_info=None if expected else error)
        else:
            _troubles.over("upkeep")
        await asyncio.sleep(_PASS_SECONDS)


async def renew_due(validation: Validation) -> int:
    """Renew the credentials that have lived two thirds of their life, and destroy the keys of those that ended and
    have a successor. Returns how many were renewed; one that cannot be renewed holds up none of the others."""
    async with validation.database.read() as view:
        known = await credentials.load_all(view)
    replaced = {each.replaces for each in known}
    mine = [each for each in known if each.renews_itself]
    renewed = 0
    for each in mine:
        if each.id in replaced or view.now < renew_at(each):
            continue
        renewing = est_credentials.renew_one if each.est else issued_credentials.renew_one
        try:
            renewed += await renewing(validation, each)
        except IntaglioError as error:
            if _troubles.worth_reporting(each.id):
                log.error("a client credential cannot be renewed", subject=each.subject, reason=str(error))
    for each in mine:
        if each.id in replaced and each.not_after <= view.now:
            async with validation.database.transaction() as tx:
                await credentials.forget(validation, tx, SYSTEM, each)
    return renewed
