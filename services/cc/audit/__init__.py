"""The zone's auditor: its ledger, its inventory and what its nodes say, compared again and again."""
