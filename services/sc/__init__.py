"""The storage controller."""
