"""Network files ``<epoch>_net_<label>.pth``: plain state dicts, written whole and loaded strictly."""
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from util.errors import UserError
from util.files import atomic_path

# parts of a key or of its shape -> the options that decide them, for the message about a checkpoint that does not fit
_HINTS = (
    ("mlp_shared", "--norm_mode, --norm_G"),
    ("fc_noise", "--noise_nc, --norm_mode, --ngf"),
    ("_conv_", "--noise_nc, --ngf"),
    ("fc.", "--ngf, --crop_size, --aspect_ratio, --num_upsampling_layers, --z_dim, --use_vae"),
    ("fc_mu", "--z_dim, --ngf"),
    ("up_4", "--num_upsampling_layers"),
    (".norm_", "--label_nc, --contain_dontcare_label (number of classes), --ngf"),
    ("model0", "--label_nc, --contain_dontcare_label, --no_instance, --ndf"),
    ("discriminator_", "--num_D, --n_layers_D, --ndf, --norm_D"),
    ("weight_orig", "--ngf, --norm_G"),
    ("", "--ngf"),
)


def network_path(folder: str, label: str, epoch: str | int) -> str:
    """Where the network called ``label`` (G, D, IE or E) of ``epoch`` (a number, latest or best) lies in ``folder``."""
    return os.path.join(folder, f"{epoch}_net_{label}.pth")


def save_network(network: nn.Module, path: str) -> None:
    """Write the state dict of ``network``, on the CPU, to ``path``."""
    save_tensors({key: value.detach().cpu() for key, value in network.state_dict().items()}, path)


def save_tensors(content: Any, path: str) -> None:
    """``torch.save``, atomically."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_tensors(path: str) -> Any:
    """What :func:`save_tensors` wrote; code in a file is never run.

    :raises UserError: no such file, or no file of tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint; check --checkpoints_dir, --name and --which_epoch, or train "
                        "first") from error
    except Exception as error:
        raise UserError(f"{path}: not a readable checkpoint of tensors ({type(error).__name__}); save or download it "
                        "again") from error


def load_network(network: nn.Module, paths: str | Sequence[str]) -> None:
    """Load the first of ``paths`` that exists into ``network``, strictly.

    Published files may carry a ``module.`` prefix, lack ``num_batches_tracked``, and call INADE's encoder IE or E.

    :raises UserError: no file, or one of another architecture; the message lists what differs and which options to try.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    path = next((p for p in paths if os.path.isfile(p)), paths[0])
    state = load_tensors(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a state dict of tensors; name a file written by train.py")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    expected = network.state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros_like(value))
    differences = _differences(state, expected)
    if differences:
        keys, lines = zip(*differences, strict=True)
        hints = list(dict.fromkeys(next(hint for part, hint in _HINTS if part in key) for key in keys))
        shown = "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "")
        raise UserError(f"{path} does not fit the network that the options describe: {shown}. "
                        f"Options that decide this: {'; '.join(hints[:3])}")
    network.load_state_dict(state)


def _differences(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[tuple[str, str]]:
    lines = []
    for key in sorted(state.keys() & expected.keys()):
        found, wanted = tuple(state[key].shape), tuple(expected[key].shape)
        if found != wanted:
            lines.append((key, f"{key} is {list(found)}, not {list(wanted)}"))
    lines += [(key, f"{key} is missing") for key in expected if key not in state]
    lines += [(key, f"{key} is unknown") for key in state if key not in expected]
    return lines
