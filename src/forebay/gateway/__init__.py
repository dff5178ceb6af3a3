"""HTTP: bytes to typed calls, events to bytes.  No policy here."""
