"""Training steps and evaluation during training."""
