"""One authenticated request, the URLs of its endpoint, and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from intaglio.enrollment.acme.context import Acme, options_of
from intaglio.enrollment.acme.errors import Malformed, ResourceUnknown
from intaglio.enrollment.acme.jwk import Jwk, known_jwk
from intaglio.enrollment.acme.options import AcmeOptions
from intaglio.enrollment.values import Applicant, Endpoint


@dataclass(frozen=True)
class Links:
    """URLs below ``root``, which is ``https://host/acme/tenant/ca/profile``."""

    root: str

    @property
    def directory(self) -> str:
        return f"{self.root}/directory"

    def account(self, account_id: UUID) -> str:
        return f"{self.root}/account/{account_id}"

    def orders(self, account_id: UUID) -> str:
        return f"{self.root}/account/{account_id}/orders"

    def order(self, order_id: UUID) -> str:
        return f"{self.root}/order/{order_id}"

    def finalize(self, order_id: UUID) -> str:
        return f"{self.root}/order/{order_id}/finalize"

    def authorization(self, authorization_id: UUID) -> str:
        return f"{self.root}/authorization/{authorization_id}"

    def challenge(self, authorization_id: UUID, method: str) -> str:
        return f"{self.root}/challenge/{authorization_id}/{method}"

    def certificate(self, order_id: UUID, alternate: int = 0) -> str:
        return f"{self.root}/certificate/{order_id}" + (f"/{alternate}" if alternate else "")


@dataclass(frozen=True)
class Account:
    """An account as it was when the request arrived. ``bound`` is what its external credential may ask for."""

    id: UUID
    status: str
    jwk_text: str = field(repr=False)
    contacts: tuple[str, ...]
    terms: str | None
    external_name: str | None
    bound: Mapping[str, Any]

    @property
    def jwk(self) -> Jwk:
        return known_jwk(self.jwk_text)

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Account:
        """From a row of ``acme_account``."""
        return cls(
            row["id"], row["status"], row["jwk"], tuple(row["contacts"]), row["terms"], row["external_name"],
            row["bound"],
        )  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A request whose signature and nonce are good.

    ``signer`` is the key that signed; ``account`` is who signed by its URL, None for a request signed with a key in its
    header. ``payload`` is None for a POST-as-GET (RFC 8555 section 6.3).
    """

    acme: Acme
    endpoint: Endpoint
    links: Links
    url: str
    source: str
    signer: Jwk
    account: Account | None
    payload: Mapping[str, Any] | None = field(repr=False)

    @property
    def options(self) -> AcmeOptions:
        return options_of(self.endpoint)

    @property
    def who(self) -> Account:
        """The account; the routes see to it that there is one where it is needed."""
        assert self.account is not None
        return self.account

    @property
    def applicant(self) -> Applicant:
        return Applicant(applicant_name(self.account), "account", self.source)

    @property
    def wish(self) -> Mapping[str, Any]:
        """The payload of a request that is no POST-as-GET. Raises Malformed."""
        if self.payload is None:
            raise Malformed("This resource is asked with a JSON object as payload.")
        return self.payload


@dataclass(frozen=True)
class Answer:
    """What goes back: a JSON document or octets with their media type."""

    document: Mapping[str, Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()  # (URL, relation)
    octets: bytes = b""
    media_type: str = "application/json"

    @property
    def body(self) -> bytes:
        if self.document is None:
            return self.octets
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def applicant_name(account: Account | None) -> str:
    """How an account is called in records."""
    return "anonymous" if account is None else f"acme:{account.id}"


def id_of(text: str, what: str) -> UUID:
    """The id in a URL. Raises ResourceUnknown."""
    try:
        found = UUID(text)
    except ValueError:
        raise ResourceUnknown(f"There is no {what} with this URL.") from None
    if str(found) != text:
        raise ResourceUnknown(f"There is no {what} with this URL.")
    return found
