"""The cloud controller's side of the object store: whose keys these are, and the door that both share."""
