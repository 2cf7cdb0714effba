"""Tests of fsd.models."""
