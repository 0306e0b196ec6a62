"""Tokens by PKCS #11 in declarations. PINs are given by command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from intaglio.core.principal import Permission, Principal
from intaglio.keystore import token_admin
from intaglio.keystore.token_admin import TokenChanges, TokenPlace
from intaglio.keystore.tokens import Tokens
from intaglio.server.management.declarative.document import DeclaredToken, Document
from intaglio.server.management.declarative.steps import Step, changed_fields

_OF_TOKENS: Final = tuple(name for name in DeclaredToken.model_fields if name != "name")


async def read_tokens(tokens: Tokens, principal: Principal) -> list[DeclaredToken] | None:
    """All of them, without their PINs; None for who may not see them."""
    if not principal.may(Permission.KEYS_MANAGE):
        return None
    async with tokens.database.read() as view:
        found = await token_admin.list_tokens(view, principal)
    return [DeclaredToken(name=each.name, **{name: getattr(each, name) for name in _OF_TOKENS}) for each in found]


def token_steps(wanted: Document, current: Document) -> Iterator[Step]:
    """Tokens to record and to change. Without label, serial number or slot, what is recorded of them stays."""
    known = {each.name: each for each in current.tokens or ()}
    for token in wanted.tokens or ():
        before = known.get(token.name)
        if before is None:
            yield Step("token", "create", token.name, wanted=token)
            continue
        named = [name for name in _OF_TOKENS if getattr(token, name) is not None]
        if changes := changed_fields(token, before, named):
            yield Step("token", "change", token.name, wanted=token, fields=changes)


def gone_tokens(wanted: Document, current: Document) -> Iterator[Step]:
    """Those that a complete section does not name."""
    if wanted.tokens is not None:
        kept = {each.name for each in wanted.tokens}
        gone = [each.name for each in current.tokens or () if each.name not in kept]
        yield from (Step("token", "delete", name) for name in gone)


async def put(tokens: Tokens, principal: Principal, step: Step) -> list[str]:
    """Record or change a token; returns what a person has still to do."""
    wanted: DeclaredToken = step.wanted
    if step.action == "create":
        await token_admin.declare_token(tokens, principal, TokenPlace(**wanted.model_dump()))
        return [f"Token {step.name} gets its PIN from `intaglio hsm token set-pin {step.name}`."]
    changes = {change.name: getattr(wanted, change.name) for change in step.fields}
    await token_admin.change_token(tokens, principal, step.name, TokenChanges(**changes))
    return []


async def delete(tokens: Tokens, principal: Principal, step: Step) -> None:
    """Forget a token that no key is in."""
    await token_admin.remove_token(tokens, principal, step.name)
