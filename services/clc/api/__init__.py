"""What users may ask, one package per AWS service."""
