"""Accounts: registered by their key, looked up, changed, given another key, ended (RFC 8555 section 7.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit import record
from intaglio.audit.models import AUDIT
from intaglio.core.errors import InvalidInput, StateConflict, Unauthenticated
from intaglio.core.identifiers import new_id
from intaglio.db.engine import Row, Transaction
from intaglio.enrollment import credentials
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.call import Account, Answer, Call, Links
from intaglio.enrollment.acme.errors import (
    AccountDoesNotExist,
    ExternalAccountRequired,
    InvalidContact,
    KeyInUse,
    Malformed,
    Unauthorized,
    UnsupportedContact,
    UserActionRequired,
)
from intaglio.enrollment.acme.jwk import Jwk, canonical, read_jwk
from intaglio.enrollment.acme.jws import parse, parse_request
from intaglio.enrollment.acme.strict_json import read_object
from intaglio.enrollment.credentials import SharedSecret
from intaglio.enrollment.limits import source_network
from intaglio.enrollment.values import Applicant, Endpoint
from intaglio.x509.host_names import check_email_address

_A: Final = models.account
_MOST_CONTACTS: Final = 10
_LONGEST_CONTACT: Final = 320
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_COUNTED: Final = timedelta(hours=3)
_MOST_ORDERS: Final = 100


async def new_account(call: Call) -> Answer:
    """Register the key of the request, or find its account.

    Raises AccountDoesNotExist (only existing ones were asked for), Unauthorized (its account has ended),
    UserActionRequired (terms), ExternalAccountRequired, InvalidContact, UnsupportedContact, RateLimited.
    """
    wish = call.wish
    known = await _by_key(call, call.signer)
    if known is not None:
        return _existing(call, known)
    if wish.get("onlyReturnExisting") is True:
        raise AccountDoesNotExist("There is no account with this key.")
    contacts = _contacts(wish)
    terms = _agreed_terms(call, wish)
    external = await _external_account(call)
    limit = call.options.rates.accounts_per_address
    if limit is not None:
        name = f"acme-account:{call.endpoint.id}:{source_network(call.source)}"
        await call.acme.enrollment.limits.take(name, limit, _COUNTED)
    async with call.acme.enrollment.database.transaction() as tx:
        made = await _insert(tx, call, contacts, terms, external)
    if made is None:  # registered at the same time by another request
        known = await _by_key(call, call.signer)
        if known is None:
            raise AccountDoesNotExist("The account was deleted at this moment.")
        return _existing(call, known)
    return Answer(_document(made, call.links), 201, {"Location": call.links.account(made.id)})


async def update_account(call: Call) -> Answer:
    """Change contacts, agree to terms, or end the account; without payload show it. Raises like :func:`new_account`."""
    account = call.who
    if call.payload is None:
        return Answer(_document(account, call.links))
    changes: dict[str, Any] = {}
    status = call.payload.get("status", "valid")
    if status not in ("valid", "deactivated"):
        raise Malformed('The status of an account is changed to "deactivated" only.')
    if "contact" in call.payload:
        changes["contacts"] = list(_contacts(call.payload))
    if call.payload.get("termsOfServiceAgreed") is True:
        changes["terms"] = _terms_url(call)
    changes = {name: value for name, value in changes.items() if value != _present(account, name)}
    if status == "deactivated":
        changes["status"] = "deactivated"
    if not changes:
        return Answer(_document(account, call.links))
    async with call.acme.enrollment.database.transaction() as tx:
        row = await tx.one_or_none(
            update(_A).where(_A.c.id == account.id, _A.c.status == "valid")
            .values(changed_at=tx.now, **changes).returning(_A)
        )  # fmt: skip
        if row is None:
            raise Unauthorized("The account is no longer valid.")
        action = "acme-account.deactivate" if status == "deactivated" else "acme-account.update"
        audit(tx, call.endpoint, call.applicant, action, account.id, changed=sorted(changes))
    return Answer(_document(Account.of(row), call.links))


async def change_key(call: Call, inner: Mapping[str, Any]) -> Answer:
    """Give the account another key, which signs ``inner`` (RFC 8555 section 7.3.5).

    Raises Malformed, BadPublicKey, Unauthorized (the signature of the new key), KeyInUse.
    """
    account = call.who
    signed = parse_request(json.dumps(inner).encode())
    if not signed.has_jwk or "nonce" in signed.protected:
        raise Malformed("The inner JWS of a key change has a jwk, and no nonce.")
    new = signed.jwk
    signed.verify(new)
    if signed.url != call.url:
        raise Malformed("The inner JWS of a key change has the same url as the outer one.")
    wish = read_object(signed.payload, "The payload of the inner JWS")
    if wish.get("account") != call.links.account(account.id):
        raise Malformed("The inner JWS names another account.")
    if read_jwk(wish.get("oldKey")).thumbprint != account.jwk.thumbprint:
        raise Malformed("oldKey is not the key of the account.")
    try:
        return await _change_key(call, new)
    except StateConflict as error:
        if error.code != "already-exists":
            raise
    known = await _by_key(call, new)  # another account took the key at the same moment
    raise _key_in_use(call, account.id if known is None else known["id"])


async def _change_key(call: Call, new: Jwk) -> Answer:
    account = call.who
    async with call.acme.enrollment.database.transaction() as tx:
        other = await tx.scalar(_with_key(call.endpoint, new).with_for_update())
        if other is not None:
            raise _key_in_use(call, other)
        changed = await tx.one_or_none(
            update(_A)
            .where(_A.c.id == account.id, _A.c.status == "valid", _A.c.thumbprint == account.jwk.thumbprint)
            .values(jwk=canonical(new), thumbprint=new.thumbprint, changed_at=tx.now)
            .returning(_A)
        )
        if changed is None:
            raise Unauthorized("The account was changed at this moment.")
        thumbprint = new.thumbprint_text
        audit(tx, call.endpoint, call.applicant, "acme-account.change-key", account.id, thumbprint=thumbprint)
    return Answer(_document(Account.of(changed), call.links))


def _key_in_use(call: Call, account_id: UUID) -> KeyInUse:
    return KeyInUse("An account with this key exists already.", headers={"Location": call.links.account(account_id)})


async def list_orders(call: Call, after: UUID | None) -> Answer:
    """The orders of the account that have not come to nothing, the newest first (RFC 8555 section 7.1.2.1)."""
    o = models.order.c
    query = select(o.id).where(o.account_id == call.who.id, o.state != "invalid")
    if after is not None:
        query = query.where(o.id < after)
    async with call.acme.enrollment.database.read() as view:
        found = [row["id"] for row in await view.all(query.order_by(o.id.desc()).limit(_MOST_ORDERS + 1))]
    page = found[:_MOST_ORDERS]
    links = ((f"{call.links.orders(call.who.id)}?after={page[-1]}", "next"),) if len(found) > _MOST_ORDERS else ()
    return Answer({"orders": [call.links.order(each) for each in page]}, links=links)


def require_bound(call: Call) -> None:
    """Raise ExternalAccountRequired where an account is bound to an external one and this one, made before, is not."""
    if call.options.external_account == "required" and call.who.external_name is None:
        raise ExternalAccountRequired(
            "Accounts are bound to external ones here by now, and this one is not.",
            remedy="Register another key with an external account binding.",
        )


def require_standing(call: Call) -> None:
    """Raise unless the account may ask for names by the rules in force: like :func:`require_bound`, and
    UserActionRequired while it has not agreed to the terms (RFC 8555 section 7.3.3)."""
    require_bound(call)
    current = _terms_url(call)
    if current is not None and call.who.terms != current:
        raise UserActionRequired(
            "The terms of service have changed.",
            remedy=f"Read {current}, then send the account with termsOfServiceAgreed.",
            instance=current,
            headers={"Link": f'<{current}>;rel="terms-of-service"'},
        )


def audit(tx: Transaction, endpoint: Endpoint, who: Applicant, action: str, row_id: UUID, **facts: Any) -> None:
    """Record a change of an account, an order or an authorization."""
    tx.append(AUDIT, audit_row(tx.now, endpoint, who, action, row_id, **facts))


def audit_row(
    at: datetime, endpoint: Endpoint, who: Applicant, action: str, row_id: UUID, **facts: Any
) -> dict[str, Any]:
    """The values of such a record."""
    kind, name = action.partition(".")[0], f"{endpoint.address}/{row_id}"
    return record.row(at, who.principal, action, kind, name, organization=endpoint.organization, **facts)


async def _insert(
    tx: Transaction, call: Call, contacts: Sequence[str], terms: str | None, external: SharedSecret | None
) -> Account | None:
    jwk = call.signer
    row = await tx.one_or_none(
        upsert(_A)
        .values(
            id=new_id(),
            endpoint_id=call.endpoint.id,
            status="valid",
            jwk=canonical(jwk),
            thumbprint=jwk.thumbprint,
            contacts=list(contacts),
            terms=terms,
            external_account=None if external is None else external.id,
            external_name=None if external is None else external.name,
            bound={} if external is None else external.bound.model_dump(mode="json"),
            source=call.source,
            created_at=tx.now,
            changed_at=tx.now,
        )
        .on_conflict_do_nothing()
        .returning(_A)
    )
    if row is None:
        return None
    if external is not None:
        await credentials.spend(tx, external.id)
    facts = {"thumbprint": jwk.thumbprint_text, "contacts": list(contacts), "terms": terms}
    if external is not None:
        facts["external_account"] = external.name
    applicant = Applicant(f"acme:{row['id']}", "account", call.source)
    audit(tx, call.endpoint, applicant, "acme-account.create", row["id"], **facts)
    return Account.of(row)


def _existing(call: Call, row: Row) -> Answer:
    account = Account.of(row)
    if account.status != "valid":
        raise Unauthorized(f"The account with this key is {account.status}.", remedy="Register another key.")
    return Answer(_document(account, call.links), 200, {"Location": call.links.account(account.id)})


async def _by_key(call: Call, jwk: Jwk) -> Row | None:
    async with call.acme.enrollment.database.read() as view:
        query = select(_A).where(_A.c.endpoint_id == call.endpoint.id, _A.c.thumbprint == jwk.thumbprint)
        return await view.one_or_none(query)


def _with_key(endpoint: Endpoint, jwk: Jwk) -> Any:
    return select(_A.c.id).where(_A.c.endpoint_id == endpoint.id, _A.c.thumbprint == jwk.thumbprint)


def _document(account: Account, links: Links) -> dict[str, Any]:
    document: dict[str, Any] = {
        "status": account.status,
        "contact": list(account.contacts),
        "orders": links.orders(account.id),
    }
    if account.terms is not None:
        document["termsOfServiceAgreed"] = True
    return document


def _present(account: Account, name: str) -> Any:
    return list(account.contacts) if name == "contacts" else account.terms


def _contacts(wish: Mapping[str, Any]) -> tuple[str, ...]:
    value = wish.get("contact", [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Malformed('"contact" is a list of URLs.')
    if len(value) > _MOST_CONTACTS:
        raise InvalidContact(f"An account has at most {_MOST_CONTACTS} contacts.")
    return tuple(map(_contact, value))


def _contact(text: str) -> str:
    if not _SCHEME.match(text) or len(text) > _LONGEST_CONTACT:
        raise InvalidContact(f'"{text[:80]}" is not a URL.', remedy="Write mailto:admin@example.com.")
    scheme, _, address = text.partition(":")
    if scheme.lower() != "mailto":
        raise UnsupportedContact(f'Contacts of the kind "{scheme[:40]}:" are not used here.')
    if any(character in address for character in "?,%"):  # RFC 8555 section 7.3: no header fields, one address
        raise InvalidContact("A contact is one e-mail address without header fields.")
    try:
        return f"mailto:{check_email_address(address)}"
    except InvalidInput as error:
        raise InvalidContact(error.detail, remedy=error.remedy) from None


def _terms_url(call: Call) -> str | None:
    terms = call.options.terms_of_service
    return None if terms is None else str(terms)


def _agreed_terms(call: Call, wish: Mapping[str, Any]) -> str | None:
    current = _terms_url(call)
    if current is not None and wish.get("termsOfServiceAgreed") is not True:
        raise UserActionRequired(
            "An account agrees to the terms of service.",
            remedy=f"Read {current}, then send termsOfServiceAgreed.",
            instance=current,
            headers={"Link": f'<{current}>;rel="terms-of-service"'},
        )
    return current


async def _external_account(call: Call) -> SharedSecret | None:
    """The credential that the request is bound to (RFC 8555 section 7.3.4)."""
    value, policy = call.wish.get("externalAccountBinding"), call.options.external_account
    if policy == "off":
        return None
    if value is None:
        if policy == "required":
            raise ExternalAccountRequired("An account is bound to an external one here.")
        return None
    binding = parse(value)
    if not binding.kid or binding.has_jwk or "nonce" in binding.protected:
        raise Malformed("An external account binding has a kid, and neither jwk nor nonce.")
    if binding.url != call.url:
        raise Malformed("An external account binding has the url of the request.")
    if read_jwk(read_object(binding.payload, "The external account binding")) != call.signer:
        raise Malformed("An external account binding holds the key of the account.")
    failures = f"acme-eab:{call.endpoint.id}:{source_network(call.source)}"
    limits = call.acme.enrollment.limits
    await limits.require_below(failures, credentials.MOST_FAILURES)
    try:
        secret = await credentials.shared_secret(call.acme.enrollment, call.endpoint, "eab", binding.kid)
        binding.verify_hmac(secret.secret)
    except (Unauthenticated, Unauthorized):
        await limits.take(failures, credentials.MOST_FAILURES, credentials.FAILURE_PERIOD)
        raise Unauthorized(
            "The external account is not known, used up, or its MAC is wrong.",
            remedy="Check key identifier and HMAC key, or ask an administrator for new ones.",
        ) from None
    return secret

