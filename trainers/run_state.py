"""A run on disk: ``<epoch>_state.pth`` is the commit point, and holds everything that the run needs to go on exactly.

A save writes the state first, networks included, and then the networks once more in the published layout
(``<epoch>_net_*.pth``, for testing and sharing). A run that is killed in between goes on from the state, which mends
the other files.
"""
import contextlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.pix2pix_model import Pix2PixModel
from options.options import DERIVED, Options
from util import checkpoints, distributed, files
from util.errors import UserError
from util.files import copy_atomically, names_in
from util.launch import launch_id

# what a state holds, and of which type it is
_PARTS = {
    "networks": dict, "options": dict, "optimizer_G": object, "optimizer_D": object, "scaler": dict, "epoch": int,
    "epoch_iter": int, "best_fid": float | None, "data_seed": int, "data_digest": str | None, "losses": dict,
    "rng": Tensor, "rng_cuda": Tensor | None,
}
AveragedStates = Mapping[str, Mapping[str, Tensor]]  # file label -> state dict of an averaged network, with --ema
# options on which FIDs depend: they compare only where these are the same
FID_OPTIONS = ("eval_extractor", "eval_dims", "eval_statistics", "eval_precision")
# options that a run may change when it goes on; all others decide its numbers
MAY_CHANGE = frozenset({
    "name", "checkpoints_dir", "load_from_opt_file", "gpu_ids", "dataroot", "label_dir", "image_dir", "instance_dir",
    "no_pairing_check", "cache_filelist_write", "cache_filelist_read", "nThreads", "continue_train", "which_epoch",
    "init_from", "niter", "niter_decay", "display_freq", "print_freq", "save_latest_freq", "save_epoch_freq",
    "keep_last", "no_html", "tf_log", "dry_run", "results_dir", "vgg_weights", "display_winsize", "train_eval",
    "eval_epoch_freq", "inception_weights", *FID_OPTIONS, "model", "netG", "nef", "output_nc", "netD_subarch",
    "optimizer", "checkpoint_activations", "init_type", "init_variance", "amp_dtype", "impl", "tf32", "deterministic",
    "cuda_graphs", "wait_minutes",
})


def save(model: Pix2PixModel, state: Mapping[str, Any], epoch: str | int) -> None:
    """Write ``<epoch>_state.pth``, the networks and ``state``, and then ``<epoch>_net_*.pth``.

    :raises UserError: a value is not finite: what was saved before is better. Or the files cannot be written.
    """
    networks = {label: checkpoints.tensors_of(network) for label, network in model.networks().items()}
    for label, tensors in networks.items():
        checkpoints.check_finite(tensors, f"net{label}, not saved")
    average = state.get("average") or {}
    for label, tensors in average.items():
        checkpoints.check_finite(tensors, f"average of net{label}, not saved")
    for name in ("optimizer_G", "optimizer_D"):  # a large gradient can spoil these alone
        for moments in state[name]["state"].values():
            checkpoints.check_finite(moments, f"{name}, not saved")
    options = {name: value for name, value in vars(model.opt).items()
               if not name.startswith("_") and name not in DERIVED}
    path = checkpoints.state_path(model.opt.folder, epoch)
    checkpoints.save_tensors({"networks": networks, **state, "options": options}, path)
    model.save(epoch)
    checkpoints.save_networks(average, model.opt.folder, epoch, averaged=True)


def mend(model: Pix2PixModel, average: AveragedStates, epoch: str | int) -> None:
    """Write ``<epoch>_net_*.pth`` once more, where a save that was cut short left those of another moment.

    :param average: the averages that the state holds, if any.
    """
    folder = model.opt.folder
    state = checkpoints.state_path(folder, epoch)
    networks = [checkpoints.network_path(folder, label, epoch) for label in model.networks()]
    if not checkpoints.of_one_moment(state, networks):
        model.save(epoch)
    averages = [checkpoints.network_path(folder, label, epoch, averaged=True) for label in average]
    if not checkpoints.of_one_moment(state, averages, averaged=True):
        checkpoints.save_networks(average, folder, epoch, averaged=True)


def save_again(folder: str, source: str | int, epoch: str | int) -> None:
    """Let ``<epoch>_*.pth`` be what was just saved as ``source``."""
    names = [name for name in sorted(names_in(folder)) if re.fullmatch(rf"{source}_net_\w+\.pth", name)]
    for name in (f"{source}_state.pth", *names):
        copy_atomically(os.path.join(folder, name), os.path.join(folder, f"{epoch}{name.removeprefix(str(source))}"))


def load(path: str) -> dict[str, Any]:
    """A whole and sensible state. :raises UserError: there is none in the file."""
    state = checkpoints.load_tensors(path)
    if not _is_state(state):
        raise UserError(f"{path}: not the state of a run; to continue from the networks only, remove the file")
    return state


def _is_state(state: Any) -> bool:
    return (isinstance(state, dict)
            and all(isinstance(state.get(name, ...), kind) for name, kind in _PARTS.items())
            and isinstance(state.get("average"), dict | None)
            and not any(isinstance(value, Tensor) for value in state["options"].values())
            and _all(state["losses"], lambda value: isinstance(value, Tensor) and value.numel() == 1)
            and _all(state["scaler"], lambda value: isinstance(value, int | float))
            and state["epoch"] >= 1 and state["epoch_iter"] >= 0 and state["data_seed"] >= 0)


def _all(saved: dict, right: Callable[[Any], bool]) -> bool:
    """Whether all values are right, here or by name in a dictionary for each side (older states have no sides)."""
    return all(_all(value, right) if isinstance(value, dict) else right(value) for value in saved.values())


def newest_whole(folder: str) -> tuple[str, dict[str, Any]] | None:
    """The newest checkpoint of a folder that is whole, and its state; a line says so if newer ones are not.

    :raises UserError: there are checkpoints, and none is whole.
    """
    paths = [os.path.join(folder, name) for name in names_in(folder) if name.endswith("_state.pth")]
    paths.sort(key=lambda path: (os.path.basename(path) == "latest_state.pth", os.lstat(path).st_mtime), reverse=True)
    problem = None
    for path in paths:
        try:
            state = load(path)
        except UserError as error:
            problem = problem or error
            print(f"{error}; trying the previous checkpoint")
            continue
        return os.path.basename(path).removesuffix("_state.pth"), state
    if problem:
        raise problem
    return None


def saved_in_this_launch(folder: str) -> bool:
    """Whether the newest whole checkpoint of a folder was saved since torchrun was started, before a restart. Otherwise
    it is of an earlier run, or of an earlier part of this one. The first process looks for all.

    :raises UserError: see :func:`newest_whole`.
    """
    newest = newest_whole(folder) if distributed.is_main() else None
    return distributed.from_main(newest is not None and newest[1].get("launch") == launch_id())


def apply(model: Pix2PixModel, optimizers: Mapping[str, torch.optim.Optimizer], state: Mapping[str, Any],
          path: str) -> None:
    """Put networks and optimisers into a saved state.

    :raises UserError: the state is of other networks, or has values that are not finite.
    """
    networks = model.networks()
    if set(state["networks"]) != set(networks):
        raise UserError(f"{path}: has the networks {', '.join(sorted(map(str, state['networks'])))}, but the options "
                        f"ask for {', '.join(sorted(networks))}; check --use_vae and --norm_mode")
    for name, optimizer in optimizers.items():
        _check_optimizer(optimizer, state[name], path)
    for label, network in networks.items():
        checkpoints.load_state_dict(network, state["networks"][label], path)
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(state[name])


def _check_optimizer(optimizer: torch.optim.Optimizer, saved: Any, path: str) -> None:
    """Every tensor must have its parameter's shape: fused Adam would write beyond the end of a smaller one."""
    other = UserError(f"{path}: its optimisers belong to other networks; give the options of that run, or remove the "
                      "file to continue from the networks only")
    try:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        indices = [i for group in saved["param_groups"] for i in group["params"]]
        if list(map(_settings, saved["param_groups"])) != list(map(_settings, optimizer.param_groups)):
            raise other
        if not set(saved["state"]) <= set(indices):
            raise other
        for i, parameter in zip(indices, parameters, strict=True):
            values = saved["state"].get(i)
            if values and set(values) != {"step", "exp_avg", "exp_avg_sq"}:
                raise other
            for name, value in (values or {}).items():
                if value.shape != (torch.Size() if name == "step" else parameter.shape) \
                        or value.dtype != torch.float32:
                    raise other
                checkpoints.check_finite({name: value}, path)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise other from error


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a group of parameters that decide the numbers. The schedule sets the rate; in the rest, versions of
    PyTorch differ."""
    names = ("betas", "eps", "weight_decay", "amsgrad", "maximize")
    return {"params": len(group["params"]), **{name: group[name] for name in names}}


def check_data(digest: str, saved: str | None, folder: str) -> None:
    """:raises UserError: the data set of this process is not that of the run, or not that of the other processes.

    :param saved: the digest of the data set that the run began with; None for a new run.
    """
    if digest != distributed.from_main(digest):
        raise UserError("the processes of this run found different data sets: give all of them the same --dataroot")
    if saved is not None and digest != saved:
        raise UserError(f"--continue_train: {folder} is a run on another data set: its files had other names, or "
                        "another number. Give that data set, or another --name for a new run")


def check_options(opt: Options, saved: Mapping[str, Any], path: str) -> None:
    """:raises UserError: an option differs from the saved run's and would change its numbers."""
    different = [f"--{name} {value} (it was {saved[name]})" for name, value in sorted(vars(opt).items())
                 if name in saved and name not in MAY_CHANGE and name not in DERIVED and value != saved[name]
                 and not (name == "ema" and None in (value, saved[name]))]  # an average may begin, and end
    if different:
        raise UserError(f"--continue_train: {path} is from a run with other options, which cannot change during a run: "
                        f"{'; '.join(different)}. Give the earlier options, or another --name for a new run")


def prune(folder: str, keep: int) -> None:
    """Remove all numbered checkpoints except the newest ``keep``."""
    numbers = sorted({int(match[1]) for name in names_in(folder) if (match := re.fullmatch(r"(\d+)_state\.pth", name))})
    for number in numbers[:-keep]:
        for name in sorted(names_in(folder), key=lambda name: not name.endswith("_state.pth")):  # the state first
            if re.fullmatch(rf"{number}_(net_\w+|state)\.pth", name):
                with contextlib.suppress(OSError):
                    os.remove(os.path.join(folder, name))


def set_aside(folder: str) -> str | None:
    """Move the files of an earlier run out of the way of a new one; where they are now, if there were any."""
    names = [name for name in names_in(folder)
             if re.fullmatch(r"\w+_(state|net_\w+)\.pth|(loss_log|fid|iter|opt|class_names)\.txt|web|logs", name)]
    if not any(name.endswith(".pth") for name in names):
        return None
    return files.set_aside(folder, sorted(names, key=lambda name: name.endswith("_state.pth")))  # states last
