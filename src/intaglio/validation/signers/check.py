"""Whether every status authority has a signer that signs, and that clients believe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Permission, Principal
from intaglio.validation.authorities import reading
from intaglio.validation.context import Validation
from intaglio.validation.ocsp.issuers import Issuer, IssuerIndex
from intaglio.validation.ocsp.signers import Signers
from intaglio.validation.signers.checks import is_issued_by


@dataclass(frozen=True)
class Checked:
    """Who signs for one key of a status authority. ``delegated``: its CA itself says so, by having issued the signer's
    certificate or being the signer; ``problem`` is a sentence."""

    authority: str
    issuer: str
    signer: str | None
    not_after: datetime | None
    delegated: bool
    problem: str | None


async def check(validation: Validation, principal: Principal) -> list[Checked]:
    """Have every signer sign something. Needs ``validation.view``."""
    principal.require(Permission.VALIDATION_VIEW)
    snapshot = await validation.authority.current()
    async with validation.database.read() as view:
        configured = await reading.load_all(view, enabled_only=True)
    index, signers = IssuerIndex(snapshot, configured), Signers(validation.authority)
    return [await _try(signers, issuer) for issuer in index.everybody if issuer.authority_id is not None]


async def _try(signers: Signers, issuer: Issuer) -> Checked:
    whose = issuer.certificate.subject.rfc4514
    try:
        signing = await signers.get(issuer)
        await signers.sign(signing, b"a trial of the OCSP signer")
    except IntaglioError as error:
        return Checked(issuer.name, whose, None, None, False, str(error))
    certificate = signing.certificate
    delegated = certificate.spki == issuer.certificate.spki or is_issued_by(certificate, [issuer.certificate])
    return Checked(issuer.name, whose, certificate.subject.rfc4514, certificate.not_after, delegated, None)
