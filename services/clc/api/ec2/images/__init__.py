"""Images: registered from objects, made from instances and from images, shared, described."""

from __future__ import annotations

from mallee.clc.api.ec2.images import attributes, derive, lifecycle, register, view

FAMILY = (attributes, derive, lifecycle, register, view)  # importing them fills the table
