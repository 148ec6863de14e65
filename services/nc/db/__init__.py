"""What a node controller keeps on disk: its tombstones, and for fake nodes the guests themselves.

One database serves every node of a process; each row names its node.
"""

import sqlalchemy as sa

metadata = sa.MetaData()
MIGRATIONS = "mallee.nc.db"
