"""Words: requests, outcomes, records.  Standard library only, no I/O."""
