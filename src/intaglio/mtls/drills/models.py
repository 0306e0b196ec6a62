"""Table of drills: what was rehearsed, how long it took, and the evidence."""

from sqlalchemy import ForeignKey, Index, Table

from intaglio.db.base import Json, Moment, String, Uuid, metadata, optional, required

drill = Table(
    "mtls_drill",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("domain_id", Uuid, ForeignKey("mtls_trust_domain.id")),
    required("kind", String),  # revoke, rotate; runbook: the document was generated
    required("state", String),  # running, passed, failed
    required("rows", Json),  # steps: what was done, what was expected, what was seen, after how long
    required("figures", Json),  # measurements in seconds
    required("started_by", String),
    required("started_at", Moment),
    optional("finished_at", Moment),
    Index("ix_mtls_drill_domain_id", "domain_id", "kind", "id"),
    Index("ix_mtls_drill_organization_id", "organization_id", "id"),
)
