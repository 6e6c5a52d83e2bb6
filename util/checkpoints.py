"""Files of tensors: networks (``<epoch>_net_<label>.pth``, plain state dicts) and states of runs; written whole, read
with their checksums compared, loaded strictly."""
import contextlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from util.errors import UserError
from util.files import atomic_path, regular

# of the tensors in files; quantized ones, among others, cannot be looked at like these
_TYPES = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
                    torch.bfloat16, torch.float32, torch.float64})
# parts of a key or of its shape -> the options that decide them, for the message about a checkpoint that does not fit
_HINTS = (
    ("class_means", "--fitted_prior"),
    ("prior.", "--fitted_prior"),
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
# what frameworks put before the keys of a network alone, and the networks that one file may hold
_PREFIXES = frozenset({"module", "_orig_mod", "generator", "model", "net"})
_NETWORKS = frozenset({"netG", "netD", "netE", "netIE"})


def network_path(folder: str, label: str, epoch: str | int, averaged: bool = False) -> str:
    """Where the network called ``label`` (G, D, IE or E) of ``epoch`` (a number, latest or best) lies in ``folder``, or
    its average over the steps of the run."""
    return os.path.join(folder, f"{epoch}_net_{label}{'_ema' if averaged else ''}.pth")


def state_path(folder: str, epoch: str | int) -> str:
    """Where the state of a run lies in ``folder``: all that it needs to go on, its networks first."""
    return os.path.join(folder, f"{epoch}_state.pth")


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``network``, on the CPU."""
    return {key: value.detach().cpu() for key, value in network.state_dict().items()}


def save_tensors(content: Any, path: str) -> None:
    """``torch.save``, whole or not at all, and on the disk when this returns."""
    with atomic_path(path, sync=True) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise UserError(f"cannot write {path} ({str(error).splitlines()[0]}); is the disk full?") from error


def save_networks(states: Mapping[str, Any], folder: str, epoch: str | int, averaged: bool = False) -> None:
    """Write state dicts, by label, as the files of networks (averages) of an epoch."""
    for label, tensors in states.items():
        save_tensors(tensors, network_path(folder, label, epoch, averaged))


def load_tensors(path: str) -> Any:
    """What :func:`save_tensors` wrote; code in a file is never run.

    :raises UserError: no such file, no file of tensors, or one that was damaged since it was written.
    """
    if not os.path.exists(path):
        raise UserError(f"{path}: no such checkpoint; check --checkpoints_dir, --name and --which_epoch, or train "
                        f"first{_others(path)}")
    try:
        if not os.path.isfile(path):
            raise UserError(f"{path}: not a regular file; name a checkpoint")
        if zipfile.is_zipfile(path):  # of PyTorch 1.6 or later, which writes checksums but does not compare them
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise UserError(f"{path}: damaged: {damaged} fails its checksum; save or download the file again")
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_plain(content, path)
        return content
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: not a readable checkpoint of tensors ({type(error).__name__}); save or download it "
                        "again") from error


def _others(path: str) -> str:
    """Which epochs there are of the network whose file ``path`` is not there, in words."""
    ending = re.search(r"_net_\w+\.pth$", path)
    folder = os.path.dirname(path)
    names = os.listdir(folder) if ending and os.path.isdir(folder) else []
    epochs = [name.removesuffix(ending[0]) for name in names if name.endswith(ending[0])]
    epochs.sort(key=lambda epoch: (not epoch.isdecimal(), int(epoch) if epoch.isdecimal() else 0, epoch))
    return f" (of this network there are the epochs {', '.join(epochs)})" if epochs else ""


def _check_plain(content: Any, path: str) -> None:
    """:raises UserError: one of the tensors has no values to look at, or lies in memory in some other way."""
    if isinstance(content, Tensor):
        if content.dtype not in _TYPES or content.layout != torch.strided or content.device.type != "cpu":
            raise UserError(f"{path}: has a tensor of the kind {content.dtype}, {content.layout}, {content.device}, "
                            "which train.py does not write; name a file that it wrote")
    elif isinstance(content, Mapping | list | tuple):
        for part in content.values() if isinstance(content, Mapping) else content:
            _check_plain(part, path)


def tensor_checksums(path: str) -> list[tuple[int, int]]:
    """Checksum and size of every tensor in a file of :func:`save_tensors`, in the order in which they were saved; from
    the file's directory, without reading the tensors. Empty if the file has none."""
    try:
        with open(path, "rb", opener=regular) as file, zipfile.ZipFile(file) as archive:
            records = {int(match[1]): (info.CRC, info.file_size) for info in archive.infolist()
                       if (match := re.search(r"/data/(\d+)$", info.filename))}
    except (OSError, ValueError, zipfile.BadZipFile):
        return []
    return [records[number] for number in sorted(records)]


def check_finite(tensors: Mapping[str, Any], what: str) -> None:
    """:raises UserError: one of the tensors, by name, has a value that is not finite."""
    for name, value in tensors.items():
        # a sum is quick, and finite only if all values are, unless it overflows
        if isinstance(value, Tensor) and value.is_floating_point() and not value.sum().isfinite() \
                and not value.isfinite().all():
            raise UserError(f"{what}: {name} has values that are not finite; use an earlier checkpoint")


def read_networks(folder: str, epoch: str | int, names: Mapping[str, Sequence[str]],
                  averaged: bool = False) -> dict[str, tuple[str, Any]]:
    """The state dicts of some networks of one checkpoint, or of their averages, each with the file that it came from.
    They are read from ``<epoch>_net_*.pth`` (averages: ``<epoch>_net_*_ema.pth``). Where a run left its state beside
    them, the networks in it count if the files are of another moment, damaged or missing: a save was cut short.

    :param names: of every network, those that its file may have, in the order in which a state holds the networks.
    :raises UserError: a file is missing or damaged.
    """
    paths = {label: first_existing([network_path(folder, name, epoch, averaged) for name in files])
             for label, files in names.items()}
    state = state_path(folder, epoch)
    if os.path.exists(state):
        if of_one_moment(state, list(paths.values()), averaged):
            with contextlib.suppress(UserError):
                return {label: (path, load_tensors(path)) for label, path in paths.items()}
        try:
            content = load_tensors(state)
        except UserError as error:
            print(f"{error}. Using the network files beside it")
            content = None
        networks = content.get("average" if averaged else "networks") if isinstance(content, dict) else None
        if isinstance(networks, dict) and names.keys() <= networks.keys():
            print(f"{state}: the network files beside it are damaged, or from another save; using the networks in it "
                  "(remove it to use those files)")
            return {label: (state, networks[label]) for label in names}
        if averaged and content is not None:  # what may lie beside it is of an earlier part of the run
            raise UserError(f"{state}: has no averaged networks; leave out --use_ema, or train with --ema")
    for path in paths.values():
        if averaged and not os.path.exists(path):
            raise UserError(f"{path}: no averaged networks there; leave out --use_ema, or train with --ema")
    return {label: (path, load_tensors(path)) for label, path in paths.items()}


def of_one_moment(state: str, paths: Sequence[str], averaged: bool = False) -> bool:
    """Whether files of networks, in the order in which a state holds them one after the other, hold the same tensors as
    the state.

    :param averaged: the averaged networks, which a state holds behind the others.
    """
    found, checksums = tensor_checksums(state), [pair for path in paths for pair in tensor_checksums(path)]
    starts = range(int(averaged), len(found) - len(checksums) + 1)
    return any(found[i:i + len(checksums)] == checksums for i in starts) and all(map(os.path.exists, paths))


def first_existing(paths: Sequence[str]) -> str:
    """The first of some paths that is there; the very first if none is."""
    return next((path for path in paths if os.path.exists(path)), paths[0])


def load_network(network: nn.Module, path: str) -> None:
    """:func:`load_state_dict` of a file of one network."""
    load_state_dict(network, load_tensors(path), path)


def _plain_state(state: Any, path: str) -> dict[str, Tensor]:
    """The state dict that ``path`` holds, without what other tools wrap it in: a dict around it, and prefixes of its
    keys. A line says so, unless it is ``module.``, which published files may carry.

    :raises UserError: it is none.
    """
    label = re.search(r"_net_([A-Z]+)(_ema)?\.pth$", path)
    own = {f"net{label[1]}", f"net{label[1][-1]}"} if label else set()  # the encoder IE may be called netE, too
    stripped = []
    while isinstance(state, Mapping) and not is_state_dict(state):
        inner = [key for key, value in state.items() if isinstance(value, Mapping) and value]
        chosen = inner if len(inner) == 1 else [key for key in inner if key in own]
        if len(chosen) != 1:
            break
        stripped.append(f"a dict around its part {chosen[0]}")
        state = state[chosen[0]]
    if not is_state_dict(state):
        raise UserError(f"{path}: not a state dict of tensors; name a file written by train.py")
    state = {str(key): value for key, value in state.items()}
    while True:
        first = {key.partition(".")[0] for key in state}
        found = first & (_PREFIXES | own) if len(first) == 1 else first & own if first <= _NETWORKS else set()
        if len(found) != 1 or not all("." in key for key in state):
            break
        prefix = f"{found.pop()}."
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if prefix != "module.":
            stripped.append(f"the prefix {prefix}")
    if stripped:
        print(f"{path}: left out {' and '.join(stripped)}")
    return state


def is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(part, Tensor) for part in value.values())


def read_state(path: str) -> dict[str, Tensor]:
    """The state dict of one network in a file. :raises UserError: the file is missing, damaged or none of a network."""
    return _plain_state(load_tensors(path), path)


def load_agreeing(network: nn.Module, state: Mapping[str, Tensor], path: str,
                  align: Callable[[str, Tensor, Tensor], Tensor | None]) -> list[str]:
    """Load every tensor of ``state`` that has the name and the shape of one of ``network``'s; the others stay as they
    are. Returns the names of those.

    :param align: of a name, the tensor found and the network's own, makes what to load instead, of the own one's shape;
        None where the shape decides.
    :raises UserError: there are values that are not finite.
    """
    expected, taken = network.state_dict(), {}
    for key, value in expected.items():
        if key in state:
            found = align(key, state[key], value)
            found = state[key] if found is None else found
            if found.shape == value.shape:
                taken[key] = found
    check_finite(taken, path)
    network.load_state_dict({**expected, **taken})
    return [key for key in expected if key not in taken and not key.endswith("num_batches_tracked")]


def load_state_dict(network: nn.Module, state: Any, path: str) -> None:
    """Load the state dict that ``path`` holds into ``network``, strictly. (Published files may carry a ``module.``
    prefix and lack ``num_batches_tracked``.)

    :raises UserError: it is of another architecture; the message lists what differs and which options to try. Or it
        has values that are not finite.
    """
    state = _plain_state(state, path)
    expected = network.state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros_like(value))
    if found := differences(state, expected):
        keys, lines = zip(*found, strict=True)
        hints = list(dict.fromkeys(next(hint for part, hint in _HINTS if part in key) for key in keys))
        shown = "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "")
        raise UserError(f"{path} does not fit the network that the options describe: {shown}. "
                        f"Options that decide this: {'; '.join(hints[:3])}")
    check_finite(state, path)
    network.load_state_dict(state)


def differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """In what one state dict differs from another: the key of each thing, and a line."""
    lines = []
    for key in sorted(state.keys() & expected.keys()):
        found, wanted = tuple(state[key].shape), tuple(expected[key].shape)
        if found != wanted:
            lines.append((key, f"{key} is {list(found)}, not {list(wanted)}"))
        elif state[key].is_floating_point() != expected[key].is_floating_point():
            lines.append((key, f"{key} is {state[key].dtype}, not {expected[key].dtype}"))
    lines += [(key, f"{key} is missing") for key in expected if key not in state]
    lines += [(key, f"{key} is unknown") for key in state if key not in expected]
    return lines
