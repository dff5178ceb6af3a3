"""The load tool: requests over HTTP, and what became of each."""
