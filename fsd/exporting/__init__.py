"""A version, or a directory of one, for places that no checkout is for: a tar archive, a bucket."""
