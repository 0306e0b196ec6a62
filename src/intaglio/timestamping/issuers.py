"""Timestamp issuers: create, change, look at, check, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, insert, update

from intaglio.audit.record import record
from intaglio.authority.access import require_ca
from intaglio.core import clock
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.platform import live_settings
from intaglio.timestamping import signers
from intaglio.timestamping.checks import Finding, certificate_findings, ordered_chain
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.models import timestamp_issuer
from intaglio.timestamping.numbering import ensure_numbers
from intaglio.timestamping.settings import Timestamping
from intaglio.timestamping.storage import issuers_sharing, load_issuer, load_issuers
from intaglio.timestamping.values import IssuerRecord, SignerOptions, SignerRecord, TokenProfile, issuer_name
from intaglio.x509.certificates import CertificateInfo, read_certificate


class NewIssuer(BaseModel):
    """An issuer to be made. With ``ca`` (``organization~ca``) its certificates come from there, by themselves; with
    ``share_with`` it signs with the certificate of another issuer; else a request is made for another CA to sign."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    profile: TokenProfile
    ca: str | None = None
    share_with: str | None = None
    signer: SignerOptions = Field(default_factory=SignerOptions)
    enabled: bool = True


@dataclass(frozen=True)
class IssuerView:
    """An issuer with what else one wants to know of it."""

    record: IssuerRecord
    ca: str | None
    shared_with: tuple[str, ...]
    certificate: CertificateInfo | None
    chain: tuple[CertificateInfo, ...]


async def create_issuer(timestamps: Timestamps, principal: Principal, wish: NewIssuer) -> IssuerView:
    """Make an issuer with its key and, when one of our CAs certifies it, its certificate.

    Needs ``timestamping.manage``; with ``ca`` also ``ca.operate`` there. Raises InvalidInput
    (``timestamp-issuer-name``), NotFound, StateConflict (``timestamp-issuer-exists``), what issuing raises.
    """
    principal.require(Permission.TIMESTAMPING_MANAGE)
    issuer_name(wish.name)
    if wish.ca is not None and wish.share_with is not None:
        raise InvalidInput("Say ca or share_with, not both.", code="timestamp-signer-ambiguous", target="ca")
    snapshot = await timestamps.authority.current()
    async with timestamps.authority.database.transaction() as tx:
        await _require_free(tx, wish.name)
        await ensure_numbers(tx, timestamps.authority.keystore.master)
        if wish.share_with is not None:
            signer = (await load_issuer(tx, wish.share_with, lock=True)).signer
        elif wish.ca is not None:
            ca = await require_ca(tx, snapshot, principal, wish.ca, Permission.CA_OPERATE)
            signer = await signers.make_signer(tx, "automatic", ca.id, wish.signer)
            await signers.certify(timestamps, tx, principal, signer, ca, wish.name)
        else:
            signer = await signers.make_signer(tx, "foreign", None, wish.signer)
            await signers.make_request(timestamps, tx, principal, signer, wish.name, new_key=True)
        await _insert(tx, principal, wish, signer)
    return await _found(timestamps, wish.name)


async def change_issuer(
    timestamps: Timestamps,
    principal: Principal,
    name: str,
    *,
    profile: TokenProfile | None = None,
    enabled: bool | None = None,
    version: int | None = None,
) -> IssuerView:
    """Change what tokens say, or whether there are any; counts on every process at once.

    Needs ``timestamping.manage``. Raises NotFound, StateConflict (``version-moved``).
    """
    principal.require(Permission.TIMESTAMPING_MANAGE)
    async with timestamps.authority.database.transaction() as tx:
        found = await load_issuer(tx, name, lock=True)
        if version is not None and version != found.version:
            raise StateConflict(
                f'The timestamp issuer "{name}" is at version {found.version}, not {version}.',
                code="version-moved",
                remedy="Read it again and repeat the change.",
            )
        before = {"enabled": found.enabled, **found.profile.model_dump(mode="json")}
        after = {
            "enabled": found.enabled if enabled is None else enabled,
            **(profile or found.profile).model_dump(mode="json"),
        }
        changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
        if changed:
            enabled = after.pop("enabled")
            await tx.execute(
                update(timestamp_issuer)
                .where(timestamp_issuer.c.id == found.id)
                .values(profile=after, enabled=enabled, version=found.version + 1, changed_at=tx.now)
            )
            record(tx, principal, "timestamp-issuer.change", "timestamp-issuer", name, changed=changed)
            tx.changed_configuration()
    return await _found(timestamps, name)


async def delete_issuer(timestamps: Timestamps, principal: Principal, name: str) -> None:
    """Delete an issuer; its key too, unless another issuer has it. The certificate stays valid, so that tokens that
    were given can be verified. Needs ``timestamping.manage``. Raises NotFound."""
    principal.require(Permission.TIMESTAMPING_MANAGE)
    async with timestamps.authority.database.transaction() as tx:
        found = await load_issuer(tx, name, lock=True)
        await tx.execute(delete(timestamp_issuer).where(timestamp_issuer.c.id == found.id))
        if not await issuers_sharing(tx, found.signer.id):
            await signers.remove(timestamps, tx, principal, found.signer)
        record(tx, principal, "timestamp-issuer.delete", "timestamp-issuer", name)
        tx.changed_configuration()


async def list_issuers(timestamps: Timestamps, principal: Principal) -> list[IssuerView]:
    """All issuers by name. Needs ``timestamping.view``."""
    principal.require(Permission.TIMESTAMPING_VIEW)
    snapshot = await timestamps.authority.snapshot()
    async with timestamps.authority.database.read() as view:
        found = await load_issuers(view)
    cas = {ca.id: ca.full_id for ca in snapshot.cas.values()}
    names: dict[Any, list[str]] = {}
    for each in found:
        names.setdefault(each.signer.id, []).append(each.name)
    return [_view(each, cas, names[each.signer.id]) for each in found]


async def show_issuer(timestamps: Timestamps, principal: Principal, name: str) -> IssuerView:
    """One issuer. Needs ``timestamping.view``. Raises NotFound."""
    principal.require(Permission.TIMESTAMPING_VIEW)
    return await _found(timestamps, name)


async def _found(timestamps: Timestamps, name: str) -> IssuerView:
    snapshot = await timestamps.authority.snapshot()
    async with timestamps.authority.database.read() as view:
        found = await load_issuer(view, name)
        names = await issuers_sharing(view, found.signer.id)
    return _view(found, {ca.id: ca.full_id for ca in snapshot.cas.values()}, names)


async def request_certificate(timestamps: Timestamps, principal: Principal, name: str, *, new_key: bool) -> bytes:
    """A PKCS #10 request (DER) for another CA. Needs ``timestamping.manage``. Raises NotFound, StateConflict."""
    principal.require(Permission.TIMESTAMPING_MANAGE)
    async with timestamps.authority.database.transaction() as tx:
        found = await load_issuer(tx, name, lock=True)
        return await signers.make_request(timestamps, tx, principal, found.signer, name, new_key=new_key)


async def import_certificate(
    timestamps: Timestamps, principal: Principal, name: str, data: bytes | str, chain: Sequence[bytes | str] = ()
) -> IssuerView:
    """Take the certificate another CA made. Needs ``timestamping.manage``. Raises what ``signers.install`` raises."""
    principal.require(Permission.TIMESTAMPING_MANAGE)
    async with timestamps.authority.database.transaction() as tx:
        found = await load_issuer(tx, name, lock=True)
        await signers.install(timestamps, tx, principal, found.signer, name, data, chain)
    return await _found(timestamps, name)


async def renew_issuer(timestamps: Timestamps, principal: Principal, name: str) -> IssuerView:
    """A new key and certificate now. Needs ``timestamping.manage``. Raises NotFound, Refused for a foreign signer."""
    principal.require(Permission.TIMESTAMPING_MANAGE)
    snapshot = await timestamps.authority.current()
    async with timestamps.authority.database.transaction() as tx:
        found = await load_issuer(tx, name, lock=True)
        if found.signer.ca_id is None:
            raise signers.no_ca(name)
        ca = snapshot.cas[found.signer.ca_id]
        await signers.certify(timestamps, tx, principal, found.signer, ca, name)
    return await _found(timestamps, name)


async def validate_issuer(
    timestamps: Timestamps,
    principal: Principal,
    name: str,
    *,
    profile: TokenProfile | None = None,
    certificate: bytes | str | None = None,
    chain: Sequence[bytes | str] = (),
) -> list[Finding]:
    """What is wrong with an issuer, or would be with another profile or certificate; nothing is changed.

    Needs ``timestamping.view``. Raises NotFound, InvalidInput (``certificate-unparsable``).
    """
    principal.require(Permission.TIMESTAMPING_VIEW)
    async with timestamps.authority.database.read() as view:
        found = await load_issuer(view, name)
        settings = await live_settings.current(view, Timestamping)
        key = found.signer.current
        if certificate is not None:
            judged, others = signers.read_bundle(certificate, chain)
        elif key is not None and key.certificate is not None:
            judged, others = read_certificate(key.certificate), tuple(map(read_certificate, key.chain))
        else:
            judged, others = None, ()
        known = judged is not None and await signers.find_key(view, found.signer, judged.spki) is not None
    findings = _profile_findings(profile or found.profile, settings)
    if judged is None:
        missing, remedy = f'The issuer "{name}" has no certificate yet.', "Import it: intaglio tsa issuer import."
        return [Finding("error", "tsa-certificate-missing", missing, remedy), *findings]
    spki = judged.spki if known else None
    return [*certificate_findings(judged, ordered_chain(judged, others), spki, clock.now()), *findings]


def _profile_findings(profile: TokenProfile, settings: Timestamping) -> list[Finding]:
    found = []
    if profile.accuracy is not None and profile.accuracy < settings.maximum_error * 1_000_000:
        found.append(
            Finding(
                "warning",
                "tsa-accuracy",
                f"The tokens promise an accuracy of {profile.accuracy / 1e6:g} seconds, but the clock may be off by "
                f"{settings.maximum_error:g}.",
                "Lower timestamping.maximum_error, or promise less.",
            )
        )
    if "sha1" in profile.hashes:
        remedy = "Allow SHA-1 only for clients that know nothing else."
        found.append(Finding("warning", "tsa-weak-hash", "Hashes of SHA-1 can be forged.", remedy))
    if settings.clock_source == "none":
        remedy = "Set timestamping.clock_source to automatic."
        found.append(Finding("warning", "tsa-clock-unchecked", "Nobody checks the clock.", remedy))
    return found


async def _require_free(tx: Transaction, name: str) -> None:
    taken = await tx.one_or_none(timestamp_issuer.select().where(timestamp_issuer.c.name == name))
    if taken is not None:
        raise StateConflict(
            f'There is a timestamp issuer "{name}" already.',
            code="timestamp-issuer-exists",
            remedy="Choose another name, or change that one.",
            target="name",
        )


async def _insert(tx: Transaction, principal: Principal, wish: NewIssuer, signer: SignerRecord) -> None:
    profile = wish.profile.model_dump(mode="json")
    await tx.execute(
        insert(timestamp_issuer).values(
            id=new_id(),
            name=wish.name,
            enabled=wish.enabled,
            profile=profile,
            signer_id=signer.id,
            created_by=principal.name,
            created_at=tx.now,
            changed_at=tx.now,
        )
    )
    facts = {"ca": wish.ca, "share_with": wish.share_with, **profile}
    record(tx, principal, "timestamp-issuer.create", "timestamp-issuer", wish.name, **facts)
    tx.changed_configuration()


def _view(found: IssuerRecord, cas: dict[Any, str], sharing: Sequence[str]) -> IssuerView:
    key = found.signer.current
    return IssuerView(
        found,
        cas.get(found.signer.ca_id),
        tuple(name for name in sharing if name != found.name),
        None if key is None or key.certificate is None else read_certificate(key.certificate),
        () if key is None else tuple(map(read_certificate, key.chain)),
    )
