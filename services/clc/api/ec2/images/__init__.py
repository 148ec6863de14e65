"""Images: registered as records, described."""

from __future__ import annotations

from mallee.clc.api.ec2.images import records, view

FAMILY = (records, view)  # importing them fills the table
