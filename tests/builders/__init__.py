"""Builders of events: they own the defaults, so that a test states only what it is about."""
