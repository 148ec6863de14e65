"""Where the CC's tables are declared: one MetaData for all families."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
