"""How close synthesized images are to real ones, and how varied: measured the same way for every command.

Read :mod:`metrics.protocol` first: the way from pixels to statistics, and what was measured; then ``distances`` for FID
and KID, ``diversity`` and ``perceptual`` for the variety of the pictures of one layout.
"""
