"""The fast algebra: the published formulas with less work. Read :mod:`models.ops.regions` first, then ``modulation``.

Every file opens with the identity that it uses and the slow line that it equals; ``tests/reference.py`` has the slow
lines, and ``tests/test_networks.py`` holds both against each other in float64. What each brings: docs/performance.md.

On CUDA some of them are fused kernels: ``kernels`` has these, ``backend`` decides.
"""
