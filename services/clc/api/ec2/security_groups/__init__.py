"""Security groups: made and deleted, their rules, how both are described."""

from __future__ import annotations

from mallee.clc.api.ec2.security_groups import groups, rules, view

FAMILY = (groups, rules, view)  # importing them fills the table
