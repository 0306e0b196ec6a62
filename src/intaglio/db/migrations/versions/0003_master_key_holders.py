"""Every process says which master keys it holds.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "master_key_holder",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("data_dir", sa.Text(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_ids", sa.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("host", "data_dir", "process", name=op.f("pk_master_key_holder")),
    )


def downgrade() -> None:
    op.drop_table("master_key_holder")
