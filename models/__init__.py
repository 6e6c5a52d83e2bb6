"""Models: networks and losses behind what training and testing call. Read :mod:`models.pix2pix_model` first, then
:mod:`models.norm_modes`; :mod:`models.synthesis` is the Python API."""
