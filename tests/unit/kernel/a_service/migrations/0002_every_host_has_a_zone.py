"""Every host has a zone."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("UPDATE host SET zone = 'a' WHERE zone IS NULL")
    with op.batch_alter_table("host") as batch:
        batch.add_column(sa.Column("cores", sa.Integer(), nullable=True))
        batch.alter_column("zone", existing_type=sa.Text(), nullable=False)
    op.create_index("host_zone", "host", ["zone", "id"])
