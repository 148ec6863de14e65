"""The object store dies at every call, its disk fails, its power is cut; and long random lives of it."""
