"""The CC's tables and their queries."""
