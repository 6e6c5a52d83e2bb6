"""The example world: outdoor scenes, drawn with the true style of every instance.

Read :mod:`datasets.example_world.classes` first: what there is, and how it can look. Then ``layout``, which decides
where things are, and ``rendering``, which draws them with the ``painters`` and their ``palette``.
"""
