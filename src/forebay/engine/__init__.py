"""What an engine is, and how a local one is kept alive."""
