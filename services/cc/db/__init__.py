"""The CC's tables and their queries, one file a family."""

from mallee.cc.db import epochs, nodes, placements, reservations, transfers
from mallee.cc.db.schema import METADATA

__all__ = ["METADATA", "epochs", "nodes", "placements", "reservations", "transfers"]
