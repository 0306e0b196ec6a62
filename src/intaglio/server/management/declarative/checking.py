"""What can be said of a document before anything is changed: every name and reference in it that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from intaglio.authority.cas.checks import check_not_after, checked_subject
from intaglio.authority.client_users import checked_rights
from intaglio.authority.organizations import check_name
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.identifiers import CA_ID
from intaglio.profiles import registry
from intaglio.server.management.declarative.document import (
    DeclaredCa,
    DeclaredExternalRoot,
    DeclaredIssuing,
    DeclaredOrganization,
    Document,
    needs_nobody,
)
from intaglio.server.management.declarative.endpoints import endpoint_findings

#: Where in the document, and what is wrong there.
Finding = tuple[str, str]


def check(wanted: Document, current: Document) -> None:
    """Raise InvalidInput (``declaration-invalid``) with all that is wrong in what is new, each with its place.

    What depends on more than the document and the names that exist is decided when it is applied.
    """
    if found := list(_findings(wanted, current)):
        raise InvalidInput(
            f"The declaration is wrong in {found[0][0]}: {found[0][1]}",
            code="declaration-invalid",
            remedy="Correct it; nothing was changed.",
            fields=found,
        )


def _findings(wanted: Document, current: Document) -> Iterator[Finding]:
    profiles = {registry.normal_id(str(each["id"])) for each in (*(wanted.profiles or ()), *(current.profiles or ()))}
    existing = {each.name: each for each in current.organizations or ()}
    for number, organization in enumerate(wanted.organizations or ()):
        place, known = f"/organizations/{number}", existing.get(organization.name)
        if known is None:
            yield from _refusal(f"{place}/name", check_name, organization.name)
        yield from _cas(place, organization, known, profiles)
    yield from endpoint_findings(wanted, current)


def _cas(
    place: str, wanted: DeclaredOrganization, known: DeclaredOrganization | None, profiles: set[str]
) -> Iterator[Finding]:
    existing = {ca.name for ca in known.cas} if known else set()
    issuers = existing | {ca.name for ca in wanted.cas}
    for number, ca in enumerate(wanted.cas):
        where = f"{place}/cas/{number}"
        if ca.name not in existing:
            yield from _new_ca(where, ca, issuers)
        if not isinstance(ca, DeclaredExternalRoot):
            if not needs_nobody(ca):
                yield from _refusal(f"{where}/administrators", checked_rights, ca.administrators, ca.auditors)
            yield from _profiles(f"{where}/profiles", ca.profiles, profiles)


def _new_ca(where: str, ca: DeclaredCa, issuers: set[str]) -> Iterator[Finding]:
    yield from _refusal(f"{where}/name", _check_ca_id, ca.name)
    if isinstance(ca, DeclaredExternalRoot):
        return
    yield from _refusal(f"{where}/subject", checked_subject, ca.subject)
    yield from _refusal(f"{where}/not_after", check_not_after, ca, clock.now())
    if isinstance(ca, DeclaredIssuing) and ca.issuer not in issuers:
        yield f"{where}/issuer", f'There is no CA "{ca.issuer[:40]}" in the organization.'


def _profiles(where: str, wanted: list[str], custom: set[str]) -> Iterator[Finding]:
    named = [each for each in wanted if each.strip()]
    if not named:
        yield where, "A CA needs at least one certificate profile."
    for profile in named:
        if registry.normal_id(profile) not in custom:
            yield from _refusal(where, registry.resolve, profile)


def _check_ca_id(name: str) -> None:
    CA_ID.check(name, target="name")


def _refusal(place: str, decide: Callable[..., object], *arguments: object) -> Iterator[Finding]:
    try:
        decide(*arguments)
    except IntaglioError as error:
        yield place, error.detail
