"""The cluster controller: which node, which generation, and the migrations of its zone."""
