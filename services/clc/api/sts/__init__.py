"""STS's actions. `sts` is the table that their decorators fill at import."""

from __future__ import annotations

from mallee.aws.actions import ActionTable

sts = ActionTable("sts")
