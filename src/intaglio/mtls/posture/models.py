"""Tables of the posture: who calls whom, what scanners found, and which findings are borne until when."""

from sqlalchemy import Boolean, ForeignKey, Index, Integer, Table, UniqueConstraint

from intaglio.db.base import Json, Moment, String, Uuid, metadata, optional, required

#: A caller and what it calls, declared by people or seen at an ingress.
service_edge = Table(
    "mtls_service_edge",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("caller", String),
    required("callee", String),
    required("protocol", String),
    required("state", String),  # none, permissive, enforced
    required("origin", String),  # declared, discovered
    required("changed_by", String),
    required("changed_at", Moment),
    UniqueConstraint("organization_id", "caller", "callee", "protocol"),
)

#: A finding that is borne for a while. Counts only when approved by a second person, and only until its end.
waiver = Table(
    "mtls_waiver",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("check", String),  # PC-01 ...
    required("subject", String),  # what the finding is about; *: all of the check
    required("owner", String),
    required("reason", String),
    required("until", Moment),
    required("state", String),  # pending, approved, rejected, withdrawn
    required("requested_by", String),
    required("requested_at", Moment),
    optional("decided_by", String),
    optional("decided_at", Moment),
    Index("ix_mtls_waiver_organization_id", "organization_id", "id"),
)

#: The newest result of each scan.
scan_result = Table(
    "mtls_scan_result",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("kind", String),  # code, keys, endpoints
    required("place", String),
    required("complete", Boolean),
    required("open_findings", Integer),
    required("findings", Json),  # the first of them
    required("recorded_by", String),
    required("recorded_at", Moment),
    UniqueConstraint("organization_id", "kind", "place"),
)
