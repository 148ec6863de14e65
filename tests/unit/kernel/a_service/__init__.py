"""The db package of a made-up service with two migrations."""

import sqlalchemy as sa

METADATA = sa.MetaData()
HOST = sa.Table(
    "host",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("cores", sa.Integer),
)
sa.Index("host_zone", HOST.c.zone, HOST.c.id)
