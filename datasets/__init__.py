"""Commands that make data sets: :mod:`datasets.make_scenes` draws one, the ``prepare_*`` bring real ones, as they are
distributed, into the folders that are read here. Read :mod:`datasets.preparation` first."""
