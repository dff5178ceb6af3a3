"""Something broken on purpose in a running server, and what was promised of it, measured."""
