"""Commands that make data sets: :mod:`datasets.make_scenes` and :mod:`datasets.prepare_celebamask`."""
