"""Reading and publishing from Python, without a mount: `fsd.open_store`, and an fsspec file system."""
