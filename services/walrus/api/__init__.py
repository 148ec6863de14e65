"""What users may ask of the object store, one module per family of operations."""
