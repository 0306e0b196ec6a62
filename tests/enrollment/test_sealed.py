"""A rotation of the master key leaves nothing of enrolment behind that only the old key opens."""

from __future__ import annotations

from sqlalchemy import LargeBinary

from intaglio import tables
from intaglio.db.base import metadata
from intaglio.enrollment.sealed import SEALED_COLUMNS

_PREFIXES = ("enrollment_", "acme_", "est_", "scep_", "cmp_")


def test_every_sealed_column_is_known() -> None:
    assert tables
    found = {
        column
        for table in metadata.tables.values()
        if table.name.startswith(_PREFIXES)
        for column in table.columns
        if "sealed" in column.name and isinstance(column.type, LargeBinary)
    }
    assert found == {column.column for column in SEALED_COLUMNS}
