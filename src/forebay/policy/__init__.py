"""Decisions about traffic.  Pure: time is an argument, nothing is awaited."""
