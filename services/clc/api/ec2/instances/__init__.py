"""Instances: launched, described, stopped, changed."""
