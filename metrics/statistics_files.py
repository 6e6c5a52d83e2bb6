"""Statistics on disk: as published (``m.npy``, ``s.npy``) or pytorch-fid's ``.npz``, with the protocol beside them.

The protocol is ``protocol.json`` in a folder, and the entry ``protocol`` of an ``.npz``, which pytorch-fid does not
look at. Files from elsewhere have none.
"""
import contextlib
import json
import os
from dataclasses import asdict

import numpy as np

from metrics.protocol import Measured, Protocol
from metrics.statistics import checked_gaussian
from util.errors import UserError
from util.files import atomic_path, regular

STATISTICS_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "datasets", "train_mu_si")
_ARRAYS, _RECORD = ("m.npy", "s.npy"), "protocol.json"


def statistics_path(name_or_path: str) -> str:
    """A plain NAME means datasets/train_mu_si/NAME; whatever has a slash or ends in .npz is a path already."""
    is_path = name_or_path.endswith(".npz") or "/" in name_or_path or os.sep in name_or_path
    return name_or_path if is_path else os.path.join(STATISTICS_DIR, name_or_path)


def load_statistics(name_or_path: str, dims: int, extractor: str = "inception") -> Measured:
    """Read statistics: a folder with ``m.npy`` [dims] and ``s.npy`` [dims,dims], or an .npz with ``mu``, ``sigma``.

    :param name_or_path: see :func:`statistics_path`.
    :param extractor: the kind of network whose features they must be of; where none is recorded, it is Inception.
    :raises UserError: missing or unreadable files, another extractor or other dims, values that are not finite.
    """
    path = statistics_path(name_or_path)
    try:
        mean, covariance, record = (_read_npz if path.endswith(".npz") else _read_folder)(path)
        protocol = None if record is None else Protocol.from_record(json.loads(record))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; make the statistics of an image folder with python "
                        "fid_score.py FOLDER --save_np_name NAME (see datasets/train_mu_si/README.md)") from error
    except KeyError as error:
        raise UserError(f"{path}: has no arrays mu and sigma; make it with pytorch-fid or --save_np_name") from error
    except Exception as error:  # zip, NumPy and JSON fail in many ways, which all mean that it cannot be used
        raise UserError(f"{path}: cannot be read as statistics; make them again with --save_np_name") from error
    found = protocol.extractor if protocol else "inception"
    if found != extractor:
        note = "" if protocol else " (nothing else is recorded)"
        raise UserError(f"{path}: these are statistics of {found}{note}, but those of {extractor} are needed; make "
                        f"them with python fid_score.py FOLDER --extractor {extractor} --save_np_name NAME")
    gaussian = checked_gaussian(mean, covariance, dims, path)
    if protocol and protocol.dims != dims:
        raise UserError(f"{path}: the recorded protocol has {protocol.dims} dimensions, but the statistics have "
                        f"{dims}; remove {_RECORD} if it belongs to other statistics, or make them again")
    return Measured(path, gaussian, protocol)


def _read_npz(path: str) -> tuple[np.ndarray, np.ndarray, str | None]:
    with open(path, "rb", opener=regular) as source, np.load(source, allow_pickle=False) as file:
        return file["mu"], file["sigma"], str(file["protocol"]) if "protocol" in file else None


def _read_folder(path: str) -> tuple[np.ndarray, np.ndarray, str | None]:
    arrays = []
    for name in _ARRAYS:
        with open(os.path.join(path, name), "rb", opener=regular) as file:
            arrays.append(np.load(file, allow_pickle=False))
    with (contextlib.suppress(FileNotFoundError),
          open(os.path.join(path, _RECORD), encoding="utf-8", opener=regular) as file):
        return *arrays, file.read()
    return *arrays, None


def save_statistics(name_or_path: str, measured: Measured) -> str:
    """Write statistics in the form that :func:`load_statistics` reads from the same name; return the path.

    The files are replaced as a whole, or not at all. :raises UserError: the place cannot be written to.
    """
    path = statistics_path(name_or_path)
    arrays = measured.statistics.mean, measured.statistics.covariance
    record = json.dumps(asdict(measured.protocol), indent=1) + "\n" if measured.protocol else None
    if path.endswith(".npz"):
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, mu=arrays[0], sigma=arrays[1], **({"protocol": record} if record else {}))
        return path
    with contextlib.ExitStack() as files:  # all are complete before the first is put in place
        for name, array in zip(_ARRAYS, arrays, strict=True):
            np.save(files.enter_context(atomic_path(os.path.join(path, name))), array)
        if record:
            with open(files.enter_context(atomic_path(os.path.join(path, _RECORD))), "w", encoding="utf-8") as file:
                file.write(record)
    if not record:  # one that is there belonged to the statistics of before
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(path, _RECORD))
    return path
