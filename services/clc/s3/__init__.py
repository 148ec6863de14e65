"""The cloud controller's side of the object store: whose keys these are, the door that both share, the files of images."""
