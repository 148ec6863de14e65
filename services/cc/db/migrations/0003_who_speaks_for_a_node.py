"""Whose certificate speaks for a node"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("speaker", sa.String(length=64), server_default="nobody", nullable=False)
        )
