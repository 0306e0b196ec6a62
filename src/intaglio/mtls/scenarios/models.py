"""Table of what scenarios showed."""

from sqlalchemy import Boolean, Index, Integer, Table

from intaglio.db.base import Json, Moment, String, Uuid, metadata, required

scenario_run = Table(
    "mtls_scenario_run",
    metadata,
    required("id", Uuid, primary_key=True),
    required("number", Integer),  # 1 to 8
    required("passed", Boolean),
    required("rows", Json),  # what was tried, expected and observed
    required("figures", Json),
    required("started_by", String),
    required("started_at", Moment),
    required("finished_at", Moment),
    Index("ix_mtls_scenario_run_number", "number", "id"),
)
