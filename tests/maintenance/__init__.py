"""Tests of fsd.maintenance."""
