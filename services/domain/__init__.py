"""The few frozen nouns that two rooms share."""
