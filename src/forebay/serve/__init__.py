"""A request's life, from the door to its last token."""
