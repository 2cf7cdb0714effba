"""Tests of fsd.client."""
