"""What lies elsewhere becomes commits: buckets, web folders, archives, Hugging Face snapshots, DVC and Git LFS."""
