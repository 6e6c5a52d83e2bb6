"""A training run: its steps, evaluation, what it saves and shows. Read :mod:`trainers.pix2pix_trainer` first, then
:mod:`trainers.run`."""
