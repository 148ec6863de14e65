"""EC2's actions, a file per family. `ec2` is the table that their decorators fill at import."""

from __future__ import annotations

from mallee.aws.actions import ActionTable

ec2 = ActionTable("ec2")
