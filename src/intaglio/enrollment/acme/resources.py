"""The resources of an endpoint: what is asked by whom, and what the directory says of them (RFC 8555 section 7.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from intaglio.enrollment.acme import accounts, authorizations, certificates, challenges, finalization, orders
from intaglio.enrollment.acme.call import Answer, Call, Links, id_of
from intaglio.enrollment.acme.context import Acme, options_of
from intaglio.enrollment.acme.errors import ResourceUnknown, Unauthorized
from intaglio.enrollment.acme.renewal_info import renewal_info
from intaglio.enrollment.values import Endpoint

Signer = Literal["account", "key", "either"]


@dataclass(frozen=True)
class Place:
    """An endpoint, and its URLs as the client of a request writes them."""

    endpoint: Endpoint
    links: Links


@dataclass(frozen=True)
class Resource:
    """What is asked by POST below an endpoint: the number of further parts of its path, who signs, and what it does."""

    parts: range
    signer: Signer
    act: Callable[[Call, list[str]], Awaitable[Answer]]


def find(parts: list[str]) -> tuple[str, Resource]:
    """The resource with this path below its endpoint, and the name it has in metrics. Raises ResourceUnknown."""
    name, *rest = parts
    resource = SIGNED.get(name)
    if len(rest) == 2 and name in _BELOW:
        name, resource = rest[1], _BELOW[name].get(rest[1])
    if resource is None or len(rest) not in resource.parts:
        raise ResourceUnknown("There is no such resource.", remedy="Begin with the directory.")
    return name, resource


OpenResource = Callable[[Acme, Place, list[str]], Awaitable[Answer]]


async def _directory(acme: Acme, place: Place, rest: list[str]) -> Answer:
    """RFC 8555 section 7.1.1."""
    _end(rest)
    endpoint, links = place.endpoint, place.links
    options = options_of(endpoint)
    names = ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"]
    if options.pre_authorization:
        names.append("newAuthz")
    ca = (await acme.enrollment.gateway.snapshot()).ca(endpoint.ca)
    offered = {each.id: each.title for each in ca.profiles if each.id in (endpoint.profile, *options.profiles)}
    meta: dict[str, Any] = {"externalAccountRequired": options.external_account == "required", "profiles": offered}
    if options.terms_of_service is not None:
        meta["termsOfService"] = str(options.terms_of_service)
    if options.website is not None:
        meta["website"] = str(options.website)
    if options.caa_identities:
        meta["caaIdentities"] = list(options.caa_identities)
    document: dict[str, Any] = {name: f"{links.root}/{_PATHS[name]}" for name in names}
    return Answer({**document, "meta": meta})


async def _new_nonce(acme: Acme, place: Place, rest: list[str]) -> Answer:
    _end(rest)
    return Answer(status=204)


async def _renewal_info(acme: Acme, place: Place, rest: list[str]) -> Answer:
    if len(rest) != 1:
        raise ResourceUnknown("A certificate is named by the end of the URL.")
    return await renewal_info(acme, place.endpoint, rest[0])


def _end(rest: list[str]) -> None:
    if rest:
        raise ResourceUnknown("There is no such resource.")


async def _account_itself(call: Call, parts: list[str]) -> Answer:
    _require_own(call, parts[0])
    return await accounts.update_account(call)


async def _orders_of(call: Call, parts: list[str]) -> Answer:
    _require_own(call, parts[0])
    _, mark, after = call.url.partition("?after=")
    return await accounts.list_orders(call, id_of(after, "page") if mark else None)


def _require_own(call: Call, text: str) -> None:
    if id_of(text, "account") != call.who.id:
        raise Unauthorized("The account in the URL is not the one that signed.")


_PATHS: Final[Mapping[str, str]] = {
    "newNonce": "new-nonce",
    "newAccount": "new-account",
    "newOrder": "new-order",
    "newAuthz": "new-authorization",
    "revokeCert": "revoke",
    "keyChange": "key-change",
    "renewalInfo": "renewal-info",
}
OPEN: Final[Mapping[str, OpenResource]] = {
    "directory": _directory,
    "new-nonce": _new_nonce,
    "renewal-info": _renewal_info,
}
_NONE, _ONE, _TWO = range(1), range(1, 2), range(2, 3)
SIGNED: Final[Mapping[str, Resource]] = {
    "new-account": Resource(_NONE, "key", lambda call, _: accounts.new_account(call)),
    "new-order": Resource(_NONE, "account", lambda call, _: orders.new_order(call)),
    "new-authorization": Resource(_NONE, "account", lambda call, _: authorizations.new_authorization(call)),
    "revoke": Resource(_NONE, "either", lambda call, _: certificates.revoke(call)),
    "key-change": Resource(_NONE, "account", lambda call, _: accounts.change_key(call, call.wish)),
    "account": Resource(_ONE, "account", _account_itself),
    "order": Resource(_ONE, "account", lambda call, parts: orders.show_order(call, id_of(parts[0], "order"))),
    "authorization": Resource(
        _ONE,
        "account",
        lambda call, parts: authorizations.show_authorization(call, id_of(parts[0], "authorization")),
    ),
    "challenge": Resource(
        _TWO,
        "account",
        lambda call, parts: challenges.respond(call, id_of(parts[0], "challenge"), parts[1]),
    ),
    "certificate": Resource(
        range(1, 3),
        "account",
        lambda call, parts: certificates.download(call, id_of(parts[0], "certificate"), _alternate(parts[1:])),
    ),
}
_BELOW: Final[Mapping[str, Mapping[str, Resource]]] = {
    "account": {"orders": Resource(_TWO, "account", _orders_of)},
    "order": {
        "finalize": Resource(
            _TWO, "account", lambda call, parts: finalization.finalize(call, id_of(parts[0], "order"))
        )
    },
}


def _alternate(parts: list[str]) -> int:
    if not parts:
        return 0
    if parts[0] not in ("1", "2", "3"):
        raise ResourceUnknown("There is no such chain.")
    return int(parts[0])
