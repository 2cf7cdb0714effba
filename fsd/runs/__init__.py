"""Runs: what was tried, and what can be learnt from it."""
