"""Partner interfaces and the client credentials they are called with: made, imported, listed, retired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr
from sqlalchemy import Select, func, insert, select, update

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key, key_algorithm_of
from intaglio.audit.record import record
from intaglio.authority import models as authority_models
from intaglio.authority.access import require_organization, sees_all, visible_organizations
from intaglio.core.effort import costly
from intaglio.core.errors import InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.providers import SoftwareProvider
from intaglio.mtls.context import Mtls
from intaglio.mtls.outbound import models
from intaglio.mtls.outbound.values import Credential, NewOutbound, Outbound, Trust
from intaglio.mtls.toolkit.pkcs12_reader import open_pkcs12
from intaglio.mtls.toolkit.requests import make_request
from intaglio.x509 import weak_keys
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

_O, _C, _T = models.outbound, models.outbound_credential, models.outbound_trust
_MOST = 1_000  # partner interfaces of one organization
_MOST_CREDENTIALS = 1_000  # of one interface, retired ones too


# ---- partner interfaces ----------------------------------------------------------------------------------------------


async def create(mtls: Mtls, principal: Principal, organization: str, wanted: NewOutbound) -> Outbound:
    """Describe a partner interface. Needs ``mtls.identities``.

    Raises NotFound, InvalidInput, StateConflict (``already-exists``, ``too-many``).
    """
    checked = wanted.checked()
    async with mtls.database.transaction() as tx:
        owner = await require_organization(tx, principal, organization, Permission.MTLS_IDENTITIES, lock=True)
        mine = select(func.count()).select_from(_O).where(_O.c.organization_id == owner.id)
        if await tx.scalar(mine.where(_O.c.name == checked.name)):
            raise StateConflict(f'"{checked.name}" exists.', code="already-exists", target="name")
        if await tx.scalar(mine) >= _MOST:
            raise StateConflict(f"An organization has at most {_MOST} of them.", code="too-many")
        await tx.execute(
            insert(_O).values(
                id=new_id(),
                organization_id=owner.id,
                name=checked.name,
                title=checked.title,
                host_pattern=checked.host_pattern,
                server_ca=checked.server_ca,
                sni=checked.sni,
                minimum_tls=checked.minimum_tls,
                state="draft",
                created_by=principal.name,
                created_at=tx.now,
            )
        )
        _note(tx, principal, "create", organization, checked.name, host=checked.host_pattern)
        return await load(tx, organization, checked.name)


async def edit(mtls: Mtls, principal: Principal, organization: str, wanted: NewOutbound) -> Outbound:
    """Change title, server CA, SNI and lowest version of TLS of the partner interface ``wanted.name``. Its host stays:
    the credential was made for that. Needs ``mtls.identities``.

    Raises NotFound, InvalidInput, StateConflict (``outbound-retired``, ``host-fixed``).
    """
    checked = wanted.checked()
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, checked.name)
        if checked.host_pattern != found.host_pattern:
            raise StateConflict(
                f'"{found.name}" is for {found.host_pattern}.',
                code="host-fixed",
                remedy="Describe another partner interface, with a credential of its own.",
                target="host_pattern",
            )
        values = {name: getattr(checked, name) for name in ("title", "server_ca", "sni", "minimum_tls")}
        await tx.execute(update(_O).where(_O.c.id == found.id).values(**values))
        _note(tx, principal, "edit", organization, found.name, sni=checked.sni, minimum_tls=checked.minimum_tls)
        return await load(tx, organization, found.name)


async def listing(mtls: Mtls, principal: Principal) -> list[Outbound]:
    """The partner interfaces of the organizations one belongs to. Needs ``mtls.view``."""
    principal.require(Permission.MTLS_VIEW)
    async with mtls.database.read() as view:
        query = _outbounds()
        if not sees_all(principal):
            mine = [each.id for each in await visible_organizations(view, principal)]
            query = query.where(_O.c.organization_id.in_(mine))
        rows = await view.all(query.order_by(authority_models.organization.c.name, _O.c.name))
        return await _with_credentials(view, rows)


async def get(mtls: Mtls, principal: Principal, organization: str, name: str) -> Outbound:
    """One partner interface. Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        return await load(view, organization, name)


async def retire(mtls: Mtls, principal: Principal, organization: str, name: str) -> Outbound:
    """End a partner interface and destroy its keys. Raises NotFound, StateConflict (``outbound-retired``)."""
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        for each in found.credentials:
            if each.state != "retired":
                await _retire_credential(mtls, tx, principal, each)
        await tx.execute(update(_O).where(_O.c.id == found.id).values(state="retired", retired_at=tx.now))
        _note(tx, principal, "retire", organization, name)
        return await load(tx, organization, name)


# ---- credentials -----------------------------------------------------------------------------------------------------


async def import_pkcs12(
    mtls: Mtls, principal: Principal, organization: str, name: str, data: bytes, password: SecretStr
) -> Outbound:
    """Take key and certificate out of a PKCS #12 file. The first credential is used at once, others when switched.

    Raises InvalidInput (``password-wrong``, ``pkcs12-unreadable``, ``pkcs12-without-key``, ``key-mismatch``,
    ``key-algorithm-not-allowed``), Refused (``encryption-unsupported``, ``credential-expired``), StateConflict.
    """
    principal.require(Permission.MTLS_IDENTITIES)
    content = await costly.run(principal, lambda: open_pkcs12(data, password.get_secret_value()))
    if content.key is None:
        raise InvalidInput(
            "There is no private key in the PKCS #12 file.",
            code="pkcs12-without-key",
            remedy="Export it again, with the private key.",
        )
    if content.certificate is None or not content.key_matches:
        raise InvalidInput("No certificate in the PKCS #12 file belongs to its private key.", code="key-mismatch")
    key_algorithm_of(content.key)
    if isinstance(content.key, rsa.RSAPrivateKey):
        weak_keys.check_public_key(content.key.public_key())
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        _require_room(found)
        info = _usable(content.certificate, tx)
        label = _label(organization, name)
        signer = await mtls.authority.keystore.adopt(tx, content.key, label, principal=principal)
        values = _certificate_values(info, content.chain)
        await _add(tx, principal, found, signer.key_id, **values)
        _note(tx, principal, "import", organization, name, serial_number=info.serial.hex())
        return await load(tx, organization, name)


@dataclass(frozen=True)
class Wanted:
    """What a certificate request for a partner asks for."""

    subject: str
    names: Sequence[tuple[str, str]] = ()
    key_algorithm: str = "P-256"
    provider: str = "software"


async def request(mtls: Mtls, principal: Principal, organization: str, name: str, wanted: Wanted) -> bytes:
    """Make a key in the keystore, and a certificate request (DER) for it. Replaces a request that is still open.

    Raises NotFound, Forbidden, InvalidInput, StateConflict (``outbound-retired``, ``too-many``), RateLimited
    (``too-much-work``), NotSupported (provider, algorithm), Unavailable.
    """
    subject = Name.parse(wanted.subject)
    names = GeneralNames.build(wanted.names) if wanted.names else None
    algorithm = KeyAlgorithm.parse(wanted.key_algorithm)
    # Whoever may not, or has no room, costs nothing; what counts is looked at again once the key is there.
    async with mtls.database.read() as view:
        await require_organization(view, principal, organization, Permission.MTLS_IDENTITIES)
        before = await load(view, organization, name)
        _require_open(before)
        _require_room(before)
    key = None
    if wanted.provider == SoftwareProvider.name:
        key = await costly.run(principal, lambda: generate_private_key(algorithm))
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        _require_room(found)
        if (replaced := found.credential("requested")) is not None:
            await _retire_credential(mtls, tx, principal, replaced)
        keystore, label = mtls.authority.keystore, _label(organization, name)
        if key is not None:
            signer = await keystore.adopt(tx, key, label, principal=principal, made_here=True)
        else:  # a token makes it itself, in its own threads, and takes it back when the transaction fails
            signer = await keystore.generate(tx, algorithm, label, provider=wanted.provider, principal=principal)
        made = await signer.using(lambda key: make_request(key, subject, names))
        await _add(tx, principal, found, signer.key_id, state="requested", request=made)
        _note(tx, principal, "request", organization, name, subject=subject.rfc4514)
        return made


async def install(mtls: Mtls, principal: Principal, organization: str, name: str, data: str | bytes) -> Outbound:
    """Take the certificate (with its issuers) for the open request.

    Raises StateConflict (``no-open-request``), InvalidInput (``key-mismatch``), Refused (``credential-expired``).
    """
    leaf, *chain = read_certificates(data)
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        waiting = found.credential("requested")
        if waiting is None:
            raise StateConflict("No certificate was requested.", code="no-open-request", remedy="Make a request first.")
        signer = await mtls.authority.keystore.load(tx, waiting.private_key_id)
        if signer.spki != leaf.spki:
            raise InvalidInput("The certificate is for another key.", code="key-mismatch")
        info = _usable(leaf.der, tx)
        values = _certificate_values(info, [each.der for each in chain])
        state = await _initial_state(tx, found)
        await tx.execute(
            update(_C).where(_C.c.id == waiting.id).values(**values, state=state, activated_at=_now_if(tx, state))
        )
        await _settle(tx, found.id)
        _note(tx, principal, "install", organization, name, serial_number=info.serial.hex())
        return await load(tx, organization, name)


def _require_open(found: Outbound) -> None:
    """Raise StateConflict (``outbound-retired``)."""
    if found.state == "retired":
        raise StateConflict(f'"{found.name}" is retired.', code="outbound-retired")


def _require_room(found: Outbound) -> None:
    """Raise StateConflict (``too-many``) for an interface that has had more credentials than anybody needs."""
    if len(found.credentials) >= _MOST_CREDENTIALS:
        raise StateConflict(
            f'"{found.name}" has had {_MOST_CREDENTIALS} credentials.',
            code="too-many",
            remedy="Retire it, and describe the partner anew.",
        )


def _label(organization: str, name: str) -> str:
    return f"outbound:{organization}/{name}"


def _usable(certificate: bytes, tx: Transaction) -> CertificateInfo:
    info = read_certificate(certificate)
    if info.not_after <= tx.now:
        raise Refused(
            f"The certificate expired on {info.not_after:%Y-%m-%d}.",
            code="credential-expired",
            remedy="Get a new one from whoever issued it.",
        )
    return info


def _certificate_values(info: CertificateInfo, chain: Sequence[bytes]) -> dict[str, Any]:
    return {
        "certificate": info.der,
        "chain": b"".join(chain),
        "not_before": info.not_before,
        "not_after": info.not_after,
    }


async def _add(
    tx: Transaction, principal: Principal, found: Outbound, key_id: UUID, *, state: str | None = None, **values: Any
) -> None:
    chosen = state or await _initial_state(tx, found)
    await tx.execute(
        insert(_C).values(
            id=new_id(),
            outbound_id=found.id,
            state=chosen,
            private_key_id=key_id,
            created_by=principal.name,
            created_at=tx.now,
            activated_at=_now_if(tx, chosen),
            **values,
        )
    )
    await _settle(tx, found.id)


async def _initial_state(tx: Transaction, found: Outbound) -> str:
    """The first credential is used at once; a second one waits until the partner knows it."""
    if found.current is None:
        return "current"
    await tx.execute(update(_C).where(_C.c.outbound_id == found.id, _C.c.state == "ready").values(state="superseded"))
    return "ready"


def _now_if(tx: Transaction, state: str) -> Any:
    return tx.now if state == "current" else None


async def _settle(tx: Transaction, outbound_id: UUID) -> None:
    """Set the state of the interface from those of its credentials."""
    states = {row["state"] for row in await tx.all(select(_C.c.state).where(_C.c.outbound_id == outbound_id))}
    state = "draft" if "current" not in states else "rotating" if "ready" in states else "active"
    await tx.execute(update(_O).where(_O.c.id == outbound_id).values(state=state))


async def _retire_credential(mtls: Mtls, tx: Transaction, principal: Principal, credential: Credential) -> None:
    await tx.execute(update(_C).where(_C.c.id == credential.id).values(state="retired"))
    await mtls.authority.keystore.destroy(tx, credential.private_key_id, principal=principal)


# ---- rows ------------------------------------------------------------------------------------------------------------


async def owned(tx: Transaction, principal: Principal, organization: str, name: str) -> Outbound:
    """The interface, locked, for whoever may change it. Raises NotFound, StateConflict (``outbound-retired``)."""
    await require_organization(tx, principal, organization, Permission.MTLS_IDENTITIES)
    found = await load(tx, organization, name, lock=True)
    _require_open(found)
    return found


async def load(view: Transaction, organization: str, name: str, *, lock: bool = False) -> Outbound:
    """The interface with its credentials, whoever asks. Raises NotFound (``outbound-unknown``)."""
    query = _outbounds().where(authority_models.organization.c.name == organization, _O.c.name == name)
    rows = await view.all(query.with_for_update(of=_O) if lock else query)
    if not rows:
        raise NotFound(f'There is no outbound credential "{name[:80]}".', code="outbound-unknown", target="name")
    return (await _with_credentials(view, rows))[0]


def _outbounds() -> Select[Any]:
    org = authority_models.organization
    return (
        select(_O, org.c.name.label("organization"))
        .join(org, org.c.id == _O.c.organization_id)
        .where(org.c.deleted_at.is_(None))
    )


async def _with_credentials(view: Transaction, rows: Sequence[Any]) -> list[Outbound]:
    ids = [row["id"] for row in rows]
    credentials = await view.all(
        select(_C).where(_C.c.outbound_id.in_(ids)).order_by(_C.c.created_at.desc(), _C.c.id.desc())
    )
    trusts = await view.all(
        select(_T)
        .where(_T.c.credential_id.in_([each["id"] for each in credentials]))
        .order_by(_T.c.shared_at, _T.c.id)
    )
    held: dict[UUID, list[Trust]] = {}
    for row in trusts:
        held.setdefault(row["credential_id"], []).append(Trust.of(row))
    made: dict[UUID, list[Credential]] = {}
    for row in credentials:
        made.setdefault(row["outbound_id"], []).append(Credential.of(row, held.get(row["id"], ())))
    return [Outbound.of(row, made.get(row["id"], ())) for row in rows]


def _note(tx: Transaction, principal: Principal, verb: str, organization: str, name: str, **detail: Any) -> None:
    record(tx, principal, f"outbound.{verb}", "outbound", f"{organization}/{name}", organization=organization, **detail)
