"""fsd: every version of every dataset and model is a directory."""
