"""IAM's actions, a file per family. `iam` is the table that their decorators fill at import."""

from __future__ import annotations

from mallee.aws.actions import ActionTable

iam = ActionTable("iam")
