"""Who holds the zone, and its beat"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("epochs", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("holder", sa.String(length=64), server_default="nobody", nullable=False)
        )
        batch_op.add_column(sa.Column("beat", sa.BigInteger(), server_default="0", nullable=False))
