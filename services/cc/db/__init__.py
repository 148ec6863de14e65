"""The CC's tables and their queries, one file a family."""

from mallee.cc.db import epochs, nodes, placements, reservations, transfers
from mallee.cc.db.schema import METADATA
from mallee.kernel.saga.record import saga_tables

SAGAS = saga_tables(METADATA)

__all__ = ["METADATA", "SAGAS", "epochs", "nodes", "placements", "reservations", "transfers"]
