"""Machines that publish to a store, collect its garbage and read it, all at once, most of them killed now and then."""
