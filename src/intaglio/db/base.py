"""What all tables share."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, LargeBinary, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID

#: One catalogue of tables for all packages; names of constraints are predictable so that migrations can name them.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Moment = DateTime(timezone=True)
Octets = LargeBinary
String = Text
Json = JSONB
Uuid = UUID(as_uuid=True)


def required(name: str, kind: object, *rest: object, **options: object) -> Column[object]:
    """A column that is never null."""
    return Column(name, kind, *rest, nullable=False, **options)  # type: ignore[arg-type]


def optional(name: str, kind: object, *rest: object, **options: object) -> Column[object]:
    """A column that may be null."""
    return Column(name, kind, *rest, nullable=True, **options)  # type: ignore[arg-type]
