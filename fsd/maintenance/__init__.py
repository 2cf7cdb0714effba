"""The care of a store: whether all of it is there and right, and what nobody needs any more."""
