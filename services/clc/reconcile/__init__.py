"""What the world does by itself, mended level by level."""
