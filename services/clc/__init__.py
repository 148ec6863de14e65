"""The cloud controller: EC2, IAM and STS for users, intent as records, one client per cluster."""
