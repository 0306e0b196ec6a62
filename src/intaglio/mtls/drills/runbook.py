"""The rotation runbook of a trust domain, generated from what is recorded: what there is, and what to do, in order."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select

from intaglio.authority import models as authority_models
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Principal
from intaglio.mtls.access.ingresses import list_ingresses
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.service import allowed, list_drills, recorded
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.lifetimes import text_of
from intaglio.mtls.identities.values import TrustDomain
from intaglio.mtls.ingresses.service import ingress_latency


@dataclass(frozen=True)
class Section:
    """A part of the document: words, then a table whose first row are its headings, then commands."""

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Runbook:
    """The document. Made newly each time; that it was made is recorded."""

    domain: str
    title: str
    sections: tuple[Section, ...]


async def make_runbook(
    mtls: Mtls, principal: Principal, domain: str, *, unless_since: timedelta | None = None
) -> Runbook:
    """The runbook as of now. Needs ``mtls.policy`` and ``mtls.identities``. Raises NotFound, StateConflict."""
    found = await allowed(mtls, principal, domain)
    async with recorded(mtls, principal, found, "runbook", unless_since=unless_since) as (course, _):
        sections = (
            await _what_there_is(mtls, found),
            await _who_has_certificates(mtls, found),
            await _where_they_count(mtls, principal, found),
            *_what_to_do(found),
            await _what_was_rehearsed(mtls, principal, found),
        )
        course.note("the document was generated", "sections", "sections")
    return Runbook(found.name, f"Rotation runbook of {found.name} ({found.environment})", sections)


def as_markdown(runbook: Runbook) -> str:
    """The document in Markdown."""
    parts = [f"# {_plain(runbook.title)}"]
    for section in runbook.sections:
        parts.append(f"## {section.title}")
        if section.text:
            parts.append(_plain(section.text))
        if section.table:
            rows = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in section.table]
            parts.append("\n".join([rows[0], "|" + "---|" * len(section.table[0]), *rows[1:]]))
        if section.commands:
            parts.append("\n".join(f"    {each}" for each in section.commands))
    return "\n\n".join(parts) + "\n"


def as_html(runbook: Runbook) -> str:
    """The document as one page without scripts."""
    title = html.escape(runbook.title)
    parts = [f"<h1>{title}</h1>"]
    for section in runbook.sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{html.escape(section.text)}</p>")
        if section.table:
            head, *rows = section.table
            parts.append(f"<table><thead>{_html_row(head, 'th')}</thead><tbody>")
            parts += [_html_row(row, "td") for row in rows]
            parts.append("</tbody></table>")
        if section.commands:
            parts.append(f"<pre>{html.escape(chr(10).join(section.commands))}</pre>")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.25rem .5rem;text-align:left}"
        f"pre{{white-space:pre-wrap}}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


# ---- sections --------------------------------------------------------------------------------------------------------


async def _what_there_is(mtls: Mtls, domain: TrustDomain) -> Section:
    snapshot = await mtls.authority.current()
    rows = [("CA", "Issues", "Ends")]
    for full_id in domain.cas:
        ca = snapshot.ca(full_id)
        ends = rfc3339(ca.certificate.not_after) if ca.generation else "no certificate"
        rows.append((full_id, "yes" if full_id == domain.issuing_ca else "no, trusted until the rotation ends", ends))
    text = f"The trust domain is {domain.state}; its bundle has version {domain.bundle_version}."
    return Section("What is trusted", text, rows)


async def _who_has_certificates(mtls: Mtls, domain: TrustDomain) -> Section:
    i, b, c = identities.identity.c, identities.binding.c, authority_models.certificate.c
    async with mtls.database.read() as view:
        live = (b.domain_id == domain.id, b.not_after > view.now, b.replaced_by.is_(None), c.status == "valid")
        query = (
            select(i.kind, b.channel, func.count().label("count"), func.min(b.not_after).label("first"))
            .join_from(identities.binding, authority_models.certificate, c.id == b.id)
            .join(identities.identity, i.id == b.identity_id)
            .where(*live)
            .group_by(i.kind, b.channel)
            .order_by(i.kind, b.channel)
        )
        found = await view.all(query)
    rows = [("Kind", "Renewed by", "Live certificates", "First one ends")]
    rows += [(row["kind"], row["channel"], str(row["count"]), rfc3339(row["first"])) for row in found]
    lives = ", ".join(f"{kind.value} {text_of(span)}" for kind, span in sorted(domain.lifetimes.items()))
    text = f"Certificates live: {lives}. Those that came by hand (manual) have to be exchanged by their owners."
    return Section("Who has certificates", text, rows)


async def _where_they_count(mtls: Mtls, principal: Principal, domain: TrustDomain) -> Section:
    rows = [("Ingress", "Kind", "Mode", "Learns of revocations", "Refuses within")]
    for each in await list_ingresses(mtls, principal, domain=domain.name):
        try:
            seconds = (await ingress_latency(mtls, principal, each.full_name)).seconds
            bound = "no bound" if seconds is None else f"{seconds:g} s"
        except IntaglioError as error:
            bound = error.detail
        rows.append((each.full_name, each.type, each.mode, each.revocation_source, bound))
    return Section("Where certificates count", "", rows)


def _what_to_do(domain: TrustDomain) -> tuple[Section, ...]:
    name, organization = domain.name, domain.organization
    return (
        Section(
            "A key was stolen, or a device lost",
            "Revoke first, ask later. Every ingress refuses within the time above, and open connections end.",
            commands=(
                f"intaglio mtls revoke --identity KIND:NAME@{name} --reason keyCompromise --yes",
                f"intaglio mtls event list --org {organization} --filter reason=revoked",
            ),
        ),
        Section(
            "The service needs a new certificate",
            "An agent gets it by itself with a new bootstrap token; everybody else asks with a new key.",
            commands=(f"intaglio mtls identity issue KIND:NAME@{name} --csr new.csr --out new.pem",),
        ),
        Section(
            "The issuing CA is to be exchanged",
            "Both CAs count while the trust domain is rotating. Give the new bundle to everybody who trusts, wait "
            "until no live certificate is of the old CA, then finish.",
            commands=(
                f"intaglio mtls ca create {name}",
                f"intaglio mtls bundle export {name} --format pem --out bundle.pem",
                f"intaglio mtls domain finish-rotation {name}",
            ),
        ),
        Section(
            "Rehearse it every quarter",
            commands=(
                f"intaglio mtls drill revoke {name}",
                f"intaglio mtls drill rotate {name}",
                f"intaglio mtls posture report --org {organization}",
            ),
        ),
    )


async def _what_was_rehearsed(mtls: Mtls, principal: Principal, domain: TrustDomain) -> Section:
    drills = await list_drills(mtls, principal, domain.organization)
    rows = [("When", "Drill", "Result", "Slowest refusal")]
    for each in [each for each in drills if each.domain == domain.name and each.kind != "runbook"][:10]:
        slowest = each.figures.get("slowest_seconds")
        measured = "" if slowest is None else f"{slowest:g} s"
        rows.append((rfc3339(each.started_at), each.kind, each.state, measured))
    return Section("What was rehearsed", "", rows)


def _html_row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _plain(text: str) -> str:
    """Text that is no markup in Markdown, nor ends a cell."""
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in text)
