"""The node controller: what really runs on a host."""
