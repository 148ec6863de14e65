"""Storage controller: one a zone, owns volumes and snapshots.

Today it is a member of the cloud - identity, health, reflection - and holds no volumes: EC2's volume
actions answer `UnsupportedOperation`.
"""
