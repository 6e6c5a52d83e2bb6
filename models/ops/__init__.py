"""The method's operations. Read :mod:`models.ops.plain` first: what the paper says, in plain PyTorch.

Every other file opens with the identity by which it computes the same with less work; ``regions`` and ``modulation``
come first. On CUDA some operations are fused kernels: ``kernels`` has these, ``backend`` chooses the form, ``proof``
compares them. What each brings: docs/performance.md.
"""
