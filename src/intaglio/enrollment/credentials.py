"""What applicants prove themselves with, where it is no certificate: passwords, shared secrets, challenges.

A password is kept as its Argon2id hash, a challenge as an HMAC under a key of the installation, and a secret that the
protocol needs itself is sealed under the master key. Nothing of it is ever shown again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import and_, case, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.core.clock import monotonic
from intaglio.core.errors import InvalidInput, Refused, Unauthenticated
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Transaction
from intaglio.enrollment import models
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.limits import source_network
from intaglio.enrollment.values import Applicant, Endpoint
from intaglio.identity import passwords
from intaglio.x509.extensions import MS_NTDS_CA_SECURITY
from intaglio.x509.general_names import GeneralName, GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import RequestedExtension

CredentialKind = Literal["password", "mac", "eab", "challenge", "one-time", "derived", "webhook", "spent"]
SharedKind = Literal["mac", "eab"]

MOST_FAILURES: Final = 10
#: Whoever tries one password of many users is stopped too; behind one address there may be many devices.
MOST_FAILURES_OF_A_SOURCE: Final = 100
FAILURE_PERIOD: Final = timedelta(minutes=10)
_REMEMBERED_SECONDS = 300.0
_MOST_REMEMBERED = 4096
_DIGEST_KEY = "challenge-digest"


class Bound(BaseModel):
    """What a credential may ask for; what is empty is not limited.

    ``subject`` (RFC 4514) is compared as a name; of ``sans`` (type, value) a request may have some or all. Without
    ``subject`` they are also all that its common name may be, for profiles copy that into the alternative names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str | None = Field(default=None, max_length=2000, description="The only subject (RFC 4514).")
    sans: tuple[tuple[str, str], ...] = Field(
        default=(), max_length=100, description="The only alternative names, each a type and a value."
    )

    def require(self, subject: Name, san: GeneralNames | None, extensions: Sequence[RequestedExtension] = ()) -> None:
        """Raise Refused (``name-not-allowed``) for names that the credential is not for; who it is limited to has no
        security identifier either, by which Active Directory knows accounts (MS-WCCE section 2.2.2.7.7.4)."""
        if (self.subject is not None or self.sans) and any(each.oid == MS_NTDS_CA_SECURITY for each in extensions):
            raise _not_bound("a security identifier")
        if self.subject is not None and Name.parse(self.subject).key != subject.key:
            raise _not_bound(f'the subject "{subject.rfc4514[:200]}"')
        if not self.sans:
            return
        allowed = {entry.der for entry in GeneralNames.build(self.sans).entries}
        claimed = [] if san is None else list(san.entries)
        if self.subject is None:
            claimed += [entry for each in subject.common_names for entry in _names_in(each)]
        for entry in claimed:
            if entry.der not in allowed:
                raise _not_bound(f'the name "{entry.text[:200]}"')


@dataclass(frozen=True)
class SharedSecret:
    """A secret that both sides know. ``limited``: it may be used so and so often, which :func:`spend` counts."""

    id: UUID
    name: str
    secret: bytes = field(repr=False)
    bound: Bound
    limited: bool = True


@dataclass(frozen=True)
class StoredCredential:
    """A credential as it is stored."""

    id: UUID
    endpoint_id: UUID
    kind: CredentialKind
    name: str
    verifier: str | None = field(repr=False)
    sealed: bytes | None = field(repr=False)
    bound: Bound
    uses_left: int | None
    transaction: str | None
    not_after: datetime | None
    created_by: str
    created_at: datetime
    used_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> StoredCredential:
        values = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "bound": Bound.model_validate(row["bound"])})

    def is_usable(self, now: datetime) -> bool:
        """Whether it is neither used up nor too old."""
        return self.uses_left != 0 and (self.not_after is None or now < self.not_after)


async def password(enrollment: Enrollment, endpoint: Endpoint, user: str, given: str, source: str) -> Applicant:
    """Who comes with user name and password (HTTP Basic).

    Raises Unauthenticated (``credential-unknown``) in the same words for every cause, RateLimited after too many
    failures.
    """
    found = await find_password(enrollment, endpoint, user, given, source)
    return Applicant(found.name, "password", source)


async def find_password(
    enrollment: Enrollment, endpoint: Endpoint, user: str, given: str, source: str
) -> StoredCredential:
    """Like :func:`password`: the credential itself."""
    network = source_network(source)
    of_user, of_source = f"password:{endpoint.id}:{network}:{user[:80]}", f"passwords:{endpoint.id}:{network}"
    await enrollment.limits.require_all_below({of_user: MOST_FAILURES, of_source: MOST_FAILURES_OF_A_SOURCE})
    async with enrollment.database.read() as view:
        found = await find(view, endpoint, "password", user)
        usable = found is not None and (found.not_after is None or view.now < found.not_after)
    verifier = found.verifier if usable and found is not None else None
    known = enrollment.passwords
    if verifier is not None and known.holds(endpoint.id, user, verifier, given):
        assert found is not None
        return found
    if not await passwords.matches(verifier, SecretStr(given)) or found is None or verifier is None:
        await enrollment.limits.note(of_user, of_source, period=FAILURE_PERIOD)
        raise credential_unknown()
    known.remember(endpoint.id, user, verifier, given)
    return found


class KnownPasswords:
    """Passwords that were right a moment ago, as keyed hashes: Argon2id for every request of a fleet costs too much."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def holds(self, endpoint_id: UUID, user: str, verifier: str, given: str) -> bool:
        """Whether this password matched this verifier in the last minutes."""
        until = self._known.get(self._tag(endpoint_id, user, verifier, given))
        return until is not None and monotonic() < until

    def remember(self, endpoint_id: UUID, user: str, verifier: str, given: str) -> None:
        """Remember that it did."""
        self._known[self._tag(endpoint_id, user, verifier, given)] = monotonic() + _REMEMBERED_SECONDS
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

    def _tag(self, *parts: UUID | str) -> bytes:
        text = "\0".join(f"{len(str(part))}:{part}" for part in parts)
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")


async def shared_secret(
    enrollment: Enrollment, endpoint: Endpoint, kind: SharedKind, reference: str, *, finishing: bool = False
) -> SharedSecret:
    """The secret that a message refers to (senderKID, EAB kid).

    ``finishing``: the message ends what was begun with the secret, which may be used up or too old by now. Raises
    Unauthenticated (``credential-unknown``).
    """
    async with enrollment.database.read() as view:
        found = await find(view, endpoint, kind, reference)
        if found is None or found.sealed is None or not (finishing or found.is_usable(view.now)):
            raise credential_unknown()
    secret = opened(enrollment.master_key, found)
    return SharedSecret(found.id, found.name, secret, found.bound, found.uses_left is not None)


async def spend(tx: Transaction, credential_id: UUID) -> None:
    """Use a credential once in the caller's transaction. Raises Unauthenticated (``credential-used-up``)."""
    c = models.credential.c
    statement = (
        update(models.credential)
        .where(c.id == credential_id, or_(c.uses_left.is_(None), c.uses_left > 0))
        .where(or_(c.not_after.is_(None), c.not_after > tx.now))
        .values(uses_left=c.uses_left - 1, used_at=tx.now)
    )
    if await tx.scalar(statement.returning(c.id)) is None:
        raise Unauthenticated(
            "The credential is used up, too old or deleted.",
            code="credential-used-up",
            remedy="Ask an administrator of the endpoint for a new one.",
        )


async def spend_for(
    tx: Transaction, credential: StoredCredential, transaction: str, *, again_within: timedelta
) -> None:
    """Use a credential that may be used so many times; the last transaction that did may repeat itself for nothing,
    ``again_within`` of its first use.

    Raises Unauthenticated (``credential-unknown``).
    """
    if credential.uses_left is None:
        return
    c = models.credential.c
    again = and_(c.transaction.is_not_distinct_from(transaction), c.used_at > tx.now - again_within)
    statement = (
        update(models.credential)
        .where(c.id == credential.id, or_(again, c.uses_left > 0))
        .values(
            uses_left=case((again, c.uses_left), else_=c.uses_left - 1),
            transaction=transaction,
            used_at=case((again, c.used_at), else_=tx.now),
        )
    )
    if await tx.scalar(statement.returning(c.id)) is None:
        raise credential_unknown()


async def find(
    view: Transaction, endpoint: Endpoint, kind: CredentialKind, name: str
) -> StoredCredential | None:
    """One credential by kind and name."""
    if "\0" in name or len(name) > 400:
        return None
    c = models.credential.c
    row = await view.one_or_none(
        select(models.credential).where(c.endpoint_id == endpoint.id, c.kind == kind, c.name == name)
    )
    return None if row is None else StoredCredential.of(row)


def opened(master: MasterKey, credential: StoredCredential) -> bytes:
    """The secret of a sealed credential. Raises Unavailable."""
    assert credential.sealed is not None, "the caller has looked"
    return master.open(credential.sealed, purpose=purpose_of(credential.id))


def purpose_of(credential_id: Any) -> str:
    """What the secret of a credential is sealed for."""
    return f"enrollment-credential:{credential_id}"


def secret_purpose(name: Any) -> str:
    """What a key of the installation is sealed for."""
    return f"enrollment-secret:{name}"


async def digest_of(enrollment: Enrollment, endpoint: Endpoint, challenge: str) -> bytes:
    """The HMAC by which a challenge is found."""
    known = enrollment.challenges
    key = known.key = known.key or await _digest_key(enrollment)
    return hmac.digest(key, endpoint.id.bytes + challenge.encode("utf-8", "surrogatepass"), hashlib.sha256)


async def _digest_key(enrollment: Enrollment) -> bytes:
    """The key of the installation for challenges, made when the first is needed."""
    table = models.secret
    query = select(table.c.sealed).where(table.c.name == _DIGEST_KEY)
    async with enrollment.database.read() as view:
        sealed = await view.scalar(query)
    if sealed is None:
        fresh = enrollment.master_key.seal(secrets.token_bytes(32), purpose=secret_purpose(_DIGEST_KEY))
        async with enrollment.database.transaction() as tx:
            await tx.execute(upsert(table).values(name=_DIGEST_KEY, sealed=fresh).on_conflict_do_nothing())
            sealed = await tx.scalar(query)
    return enrollment.master_key.open(sealed, purpose=secret_purpose(_DIGEST_KEY))


def credential_unknown() -> Unauthenticated:
    """The refusal of a wrong secret: the same words whether the name, the secret or the date was wrong."""
    return Unauthenticated(
        "The credential is not known here, or is used up or too old.",
        code="credential-unknown",
        remedy="Check name and secret; ask an administrator of the endpoint for a new one.",
    )


def _names_in(common_name: str) -> Sequence[GeneralName]:
    """The alternative name that a common name could become."""
    for kind in ("ip", "email", "dns"):
        try:
            return GeneralNames.build([(kind, common_name)]).entries
        except InvalidInput:
            continue
    return ()


def _not_bound(what: str) -> Refused:
    return Refused(
        f"The credential may not ask for {what}.",
        code="name-not-allowed",
        remedy="Ask for the names that the credential was made for.",
    )
