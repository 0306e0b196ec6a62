"""Every API token knows the token it was made with, and how long it was made for; the trail of an organization is found.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_token", sa.Column("parent_id", sa.UUID(), nullable=True))
    op.add_column("api_token", sa.Column("lifetime", sa.Interval(), nullable=True))
    op.create_index(op.f("ix_api_token_parent_id"), "api_token", ["parent_id"], unique=False)
    op.create_foreign_key(op.f("fk_api_token_parent_id"), "api_token", "api_token", ["parent_id"], ["id"])
    op.execute("UPDATE api_token SET lifetime = expires_at - created_at WHERE kind = 'api'")
    op.create_index(
        "ix_audit_record_organization",
        "audit_record",
        ["organization", "seq"],
        unique=False,
        postgresql_where=sa.text("organization IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_audit_record_organization",
        table_name="audit_record",
        postgresql_where=sa.text("organization IS NOT NULL"),
    )
    op.drop_constraint(op.f("fk_api_token_parent_id"), "api_token", type_="foreignkey")
    op.drop_index(op.f("ix_api_token_parent_id"), table_name="api_token")
    op.drop_column("api_token", "lifetime")
    op.drop_column("api_token", "parent_id")
