"""Tests of fsd.runs."""
