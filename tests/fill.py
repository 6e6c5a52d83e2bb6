"""Weights from names: the rule behind the golden files, so that no network has to be shipped with them.

Each tensor of a state dict takes standard normal numbers from a NumPy generator whose seed is the CRC-32 of the
tensor's full name. What becomes of the numbers depends on the tensor's role (see :func:`_shape_values`), so that a
network of any depth keeps activations of a sensible size.
"""
import zlib

import numpy as np
import torch

_POWER_ITERATIONS = 20


def fill_(module: torch.nn.Module, prefix: str, gain: float = 1.0) -> torch.nn.Module:
    """Replace all parameters and buffers of ``module`` by values that follow from their names; return ``module``.

    ``prefix`` goes in front of every state-dict key (``"netG."``, ``"inception."``) and ends in a dot;
    ``gain`` multiplies the weights of convolutions and linear layers. Spectrally normalised layers get singular
    vectors that fit their filled weight.
    """
    template = module.state_dict()
    values = {
        key: _shape_values(key, tuple(tensor.shape), _normal_numbers(prefix + key, tensor.shape), gain)
        for key, tensor in template.items()
        if _leaf(key) not in ("num_batches_tracked", "weight_u", "weight_v")
    }
    for key, tensor in template.items():
        if _leaf(key) == "num_batches_tracked":
            values[key] = np.zeros(tuple(tensor.shape), np.int64)
        elif _leaf(key) == "weight_u":
            layer = key.removesuffix("weight_u")
            start = _normal_numbers(prefix + key, tensor.shape)
            values[key], values[layer + "weight_v"] = _singular_vectors(values[layer + "weight_orig"], start)
    module.load_state_dict({key: torch.from_numpy(np.asarray(value)) for key, value in values.items()}, strict=True)
    return module


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _normal_numbers(name: str, shape) -> np.ndarray:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.standard_normal(tuple(shape)).astype(np.float32)


def _shape_values(key: str, shape: tuple[int, ...], normal: np.ndarray, gain: float) -> np.ndarray:
    """Scale and shift standard normal numbers to suit a tensor's role; float32."""
    leaf = _leaf(key)
    if leaf == "running_var":
        values = 0.5 + np.abs(normal)
    elif leaf == "weight" and len(shape) == 3:  # scale of a class-wise modulation [C, c, 2]
        values = 0.5 + 0.5 * normal
    elif leaf in ("weight", "weight_orig") and len(shape) in (2, 4):  # linear and convolution: by fan-in
        values = gain * normal / np.sqrt(np.prod(shape[1:]))
    elif leaf == "weight" and len(shape) < 2:  # scale of an affine normalisation
        values = 1 + 0.1 * normal
    else:  # biases, running means
        values = 0.1 * normal
    return values.astype(np.float32)


def _singular_vectors(weight: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leading singular vectors (u [rows], v [columns]) of a weight flattened to [rows, columns], from ``start``."""
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    left = start.astype(np.float64)
    for _ in range(_POWER_ITERATIONS):
        right = matrix.T @ left
        right /= np.linalg.norm(right)
        left = matrix @ right
        left /= np.linalg.norm(left)
    return left.astype(np.float32), right.astype(np.float32)
