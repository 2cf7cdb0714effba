"""Tests of fsd.runs.attribution."""
