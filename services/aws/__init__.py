"""The AWS wire without cloud words: protocol, signatures, the action table, the pipeline."""
