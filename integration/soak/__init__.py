"""A long life of mounts of a bucket: readers, publishers, evictions, faults and restarts at once (`script/soak`)."""
