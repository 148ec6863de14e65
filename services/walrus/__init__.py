"""Walrus: the S3-compatible object store, owner of buckets and objects.

Today it is a member of the cloud - identity, health, reflection - and its S3 port answers every request
with S3's own `NotImplemented`.
"""
