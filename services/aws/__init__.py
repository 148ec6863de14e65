"""The AWS wire without cloud words: models, protocols, signatures, the front door, errors, pages, filters."""
