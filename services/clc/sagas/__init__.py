"""The CLC's own sagas: work that several parties must agree on."""
