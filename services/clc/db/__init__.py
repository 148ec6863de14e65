"""The CLC's tables and their queries, a file per table family."""
