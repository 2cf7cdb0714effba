"""What is inside of model files: formats, tensors, and what will not load where there is no GPU. Executes nothing."""
