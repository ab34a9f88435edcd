"""Periodic work, by the monotonic clock."""
