"""Periodic work, on Tornado's periodic callbacks."""
