"""What is set on a bucket, or kept beside an object: a module per kind of setting."""
