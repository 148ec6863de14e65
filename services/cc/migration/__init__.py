"""Migrations as sagas between two nodes of a zone."""
