"""Initial weights of convolutions and linear layers; their biases start at 0."""
from torch import nn
from torch.nn import init

from models.networks.spectral import SpectralConv2d

INIT_TYPES = {
    "normal": lambda weight, gain: init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: init.xavier_normal_(weight, gain=gain),
    "xavier_uniform": lambda weight, gain: init.xavier_uniform_(weight, gain=1.0),
    "kaiming": lambda weight, gain: init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: init.orthogonal_(weight, gain=gain),
    "none": None,  # PyTorch's own
}


def init_weights(network: nn.Module, init_type: str, gain: float) -> nn.Module:
    """Initialise ``network`` in place and return it; ``init_type`` is a key of ``INIT_TYPES``."""
    draw = INIT_TYPES[init_type]
    for layer in network.modules():
        if draw and isinstance(layer, nn.Conv2d | nn.Linear):
            if isinstance(layer, SpectralConv2d):
                draw(layer.weight_orig, gain)
                layer.power_iteration()  # its vectors were those of another weight
            else:
                draw(layer.weight, gain)
            if layer.bias is not None:
                init.zeros_(layer.bias)
    return network
