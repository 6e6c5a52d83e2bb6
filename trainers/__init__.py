"""Training steps, evaluation during training, and what a run shows. Read :mod:`trainers.pix2pix_trainer` first."""
