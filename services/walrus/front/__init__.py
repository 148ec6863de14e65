"""The object store's HTTP side: an ASGI application that turns requests into calls and results into answers."""
