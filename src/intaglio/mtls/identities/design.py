"""The design document of an organization's trust domains: generated from the data, one version per change."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select

from intaglio.audit import record as audit
from intaglio.authority import locks
from intaglio.authority.access import Organization, require_organization
from intaglio.authority.directory import Snapshot
from intaglio.core.clock import rfc3339
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models
from intaglio.mtls.identities.authorities import cas_of
from intaglio.mtls.identities.domains import domain_of, domains_query
from intaglio.mtls.identities.edges import edge_of, edges_query
from intaglio.mtls.identities.environments import anchor_of
from intaglio.mtls.identities.lifetimes import text_of
from intaglio.mtls.identities.values import TrustDomain

_MOST_EDGES = 20_000


@dataclass(frozen=True)
class DesignDocument:
    """A version of the document. ``content`` is what it shows; ``current`` says whether that is still so."""

    organization: str
    version: int
    digest: str
    created_by: str
    created_at: datetime
    current: bool
    content: Mapping[str, Any] = field(repr=False)


async def generate_design(mtls: Mtls, principal: Principal, organization: str) -> DesignDocument:
    """The document as of now: a new version, or the newest one when nothing has changed since.

    Needs ``mtls.identities`` in the organization. Raises NotFound.
    """
    snapshot = await mtls.authority.current()
    async with mtls.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.MTLS_IDENTITIES)
        await locks.lock(tx, "mtls-design", found.id)
        content = await _content(tx, snapshot, found)
        digest = _digest(content)
        newest = await _newest(tx, found)
        if newest is not None and newest["digest"] == digest:
            return _document(newest, organization, current=True)
        values = {"organization_id": found.id, "version": (newest["version"] if newest else 0) + 1, "digest": digest}
        values |= {"content": content, "created_by": principal.name, "created_at": tx.now}
        await tx.execute(insert(models.design_document).values(**values))
        audit.record(
            tx, principal, "trust-design.generate", "trust-design", organization, organization=organization,
            version=values["version"], digest=digest.hex(),
        )  # fmt: skip
        return _document(values, organization, current=True)


async def get_design(
    mtls: Mtls, principal: Principal, organization: str, version: int | None = None
) -> DesignDocument:
    """A version of the document, the newest unless told otherwise. Needs ``mtls.view``. Raises NotFound."""
    snapshot = await mtls.authority.current()
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        t = models.design_document
        row = await _newest(view, found)
        digest = _digest(await _content(view, snapshot, found))
        if version is not None:
            row = await view.one_or_none(select(t).where(t.c.organization_id == found.id, t.c.version == version))
    if row is None:
        raise NotFound(
            f'"{organization}" has no such version of the design document.',
            code="design-unknown",
            remedy="Generate one: intaglio mtls domain design.",
        )
    return _document(row, organization, current=row["digest"] == digest)


def as_markdown(document: DesignDocument) -> str:
    """The document in Markdown."""
    return "\n".join(_lines(document)) + "\n"


def as_html(document: DesignDocument) -> str:
    """The document as one HTML page without anything from elsewhere."""
    title = html.escape(f"Trust design of {document.organization}")
    body = "\n".join(_html_of(list(_lines(document))))
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{border:1px solid #8886;padding:.3rem .6rem;text-align:left;"
        f"overflow-wrap:anywhere}}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


async def _content(view: Transaction, snapshot: Snapshot, organization: Organization) -> dict[str, Any]:
    """What the document shows, in an order that is always the same."""
    t, i, e = models.trust_domain.c, models.identity.c, models.trust_edge.c
    query = domains_query().where(t.organization_id == organization.id, t.state != "retired")
    found = [domain_of(row) for row in await view.all(query.order_by(t.environment, t.name))]
    counts = await view.all(
        select(i.domain_id, i.kind, func.count().label("count")).where(i.state != "retired")
        .where(i.domain_id.in_([domain.id for domain in found])).group_by(i.domain_id, i.kind)
    )  # fmt: skip
    edges = edges_query().where(t.organization_id == organization.id, i.state != "retired")
    rows = await view.all(edges.order_by(t.name, i.name, e.id).limit(_MOST_EDGES))
    return {
        "organization": organization.name,
        "domains": [_domain(snapshot, domain, counts) for domain in found],
        "edges": [_edge(row) for row in rows],
    }


def _domain(snapshot: Snapshot, domain: TrustDomain, counts: Sequence[Row]) -> dict[str, Any]:
    cas = []
    for ca in cas_of(snapshot, domain):
        anchor = anchor_of(snapshot, ca, domain.anchor)
        cas.append(
            {
                "ca": ca.full_id,
                "issues": ca.id == domain.issuing_ca_id,
                "subject": ca.subject.rfc4514,
                "sha256": ca.certificate.fingerprint.hex(),
                "anchor": anchor.full_id,
                "anchor_sha256": anchor.certificate.fingerprint.hex(),
            }
        )
    return {
        "name": domain.name,
        "environment": domain.environment,
        "title": domain.title,
        "state": domain.state,
        "pki": domain.pki_choice,
        "anchor": domain.anchor,
        "cas": cas,
        "ceilings": {kind.value: text_of(span) for kind, span in domain.ceilings.items()},
        "required": list(domain.required_attributes),
        "dns_suffixes": list(domain.dns_suffixes),
        "email_domains": list(domain.email_domains),
        "identities": {row["kind"]: row["count"] for row in counts if row["domain_id"] == domain.id},
    }


def _edge(row: Row) -> dict[str, Any]:
    edge = edge_of(row)
    return {
        "service": edge.service,
        "domain": edge.domain,
        "trusts": edge.trusted_domain,
        "cas": list(edge.cas),
        "state": edge.state,
        "reason": edge.reason,
        "proposed_by": edge.proposed_by,
        "approved_by": edge.approved_by,
    }


def _lines(document: DesignDocument) -> Iterator[str]:
    content = document.content
    yield f"# Trust design of {_plain(document.organization)}"
    yield ""
    yield (
        f"Version {document.version}, {rfc3339(document.created_at)}, by {_plain(document.created_by)}. "
        f"SHA-256 of its data: `{document.digest}`."
    )
    for domain in content["domains"]:
        yield from _domain_lines(domain)
    yield ""
    yield "## Who trusts whom"
    yield ""
    if not content["edges"]:
        yield "No service has said yet whose callers it trusts."
        return
    rows = [
        (e["service"], e["domain"], e["trusts"], ", ".join(e["cas"]) or "all", e["state"], e["approved_by"] or "",
         e["reason"])
        for e in content["edges"]
    ]  # fmt: skip
    yield from _table(("Service", "of", "trusts callers of", "CAs", "State", "Approved by", "Why"), rows)


def _domain_lines(domain: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {_plain(domain['name'])} ({domain['environment']})"
    yield ""
    if domain["title"]:
        yield _plain(domain["title"])
        yield ""
    what = "the roots above its CAs" if domain["anchor"] == "root" else "its issuing CAs themselves"
    yield f"State: {domain['state']}. PKI: {domain['pki']}. Relying parties trust {what}."
    yield ""
    rows = [(c["ca"], "yes" if c["issues"] else "no", c["subject"], c["sha256"], c["anchor"]) for c in domain["cas"]]
    yield from _table(("CA", "Issues", "Subject", "SHA-256", "Trust anchor"), rows)
    yield ""
    counted = domain["identities"]
    kinds = [(kind, str(counted.get(kind, 0)), longest) for kind, longest in domain["ceilings"].items()]
    yield from _table(("Kind", "Registered", "Certificates live at most"), kinds)
    if domain["dns_suffixes"]:
        yield ""
        yield f"DNS names: at or below {', '.join(domain['dns_suffixes'])}."
    if domain.get("email_domains"):  # documents of before have none
        yield ""
        yield f"E-mail addresses: of {', '.join(domain['email_domains'])}."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """Text that means nothing in Markdown and HTML."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]|#<>&" else c for c in text)
    return " ".join(escaped.split())


def _html_of(lines: Sequence[str]) -> Iterator[str]:
    """The few things :func:`_lines` writes, as HTML."""
    table: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            yield from _html_table(table)
            table = []
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            yield f"<h{level}>{_html_text(line[level + 1 :])}</h{level}>"
        elif line:
            yield f"<p>{_html_text(line)}</p>"


def _html_table(lines: Sequence[str]) -> Iterator[str]:
    yield "<table>"
    for position, line in enumerate(lines):
        if position == 1:
            continue
        tag = "td" if position else "th"
        cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
        yield "<tr>" + "".join(f"<{tag}>{_html_text(cell)}</{tag}>" for cell in cells) + "</tr>"
    yield "</table>"


def _html_text(text: str) -> str:
    unescaped, escaping = "", False
    for character in text:
        if character == "\\" and not escaping:
            escaping = True
        elif character == "`" and not escaping:
            continue
        else:
            unescaped, escaping = unescaped + character, False
    return html.escape(unescaped)


async def _newest(view: Transaction, organization: Organization) -> Row | None:
    t = models.design_document
    query = select(t).where(t.c.organization_id == organization.id).order_by(t.c.version.desc()).limit(1)
    return await view.one_or_none(query)


def _document(row: Mapping[Any, Any], organization: str, *, current: bool) -> DesignDocument:
    return DesignDocument(
        organization, row["version"], row["digest"].hex(), row["created_by"], row["created_at"], current, row["content"]
    )


def _digest(content: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).digest()
