"""The network as it is described: VPCs, subnets, the interfaces of instances."""

from __future__ import annotations

from mallee.clc.api.ec2.network import interfaces, vpcs

FAMILY = (interfaces, vpcs)  # importing them fills the table
