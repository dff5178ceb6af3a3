"""Forebay: an LLM serving system that stays fast and honest under overload."""

__version__ = "0.1.0"
