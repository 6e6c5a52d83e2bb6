"""What a page keeps of a picture, so that a reload, or a link, shows it again: text, which strangers may have changed.
"""
import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.image_files import read_image, to_ids
from editing.session import Canvas, Drawn, Editor, Session, Step
from editing.uploads import MOST_INSTANCES, check_instances
from models.networks.styles import Styles
from util.errors import UserError

_LARGEST = 100.0  # number of a style; the prior's are normal


def saved(session: Session) -> dict[str, Any]:
    """The picture of a session, as JSON has it. Of the styles, those of the instances that there are."""
    step = session.step
    current, rows = step.current(), list(step.canvas.instances())
    spread = [None if value.isnan() else round(value.item(), 4) for value in current.spread[[*rows, -1]]]
    return {"model": step.model, "label": _png(step.canvas.label), "instance": _png(step.canvas.instance),
            "z": _numbers(current.styles.z), "noise": _numbers(current.styles.noise[0, rows]), "spread": spread,
            "truncation": step.truncation, "locked": sorted(session.locked)}


def restored(editor: Editor, text: Mapping[str, Any]) -> Session:
    """The session that :func:`saved` described, with a history of its own.

    :param editor: with the networks that ``text`` names.
    :raises UserError: it does not fit these networks.
    :raises ValueError, KeyError, TypeError: it is no such text.
    """
    opt = editor.opt
    label, instance = (_ids(text[name], opt.image_size) for name in ("label", "instance"))
    if label.max() >= opt.num_classes:
        raise UserError("the saved picture has a class that this model does not know")
    check_instances(instance, "the saved picture", most := max(MOST_INSTANCES, opt.num_classes))
    if instance.max() >= most:  # or styles would be as many
        instance = np.unique(instance, return_inverse=True)[1].reshape(label.shape).astype(np.int32)
    canvas = Canvas(label, instance)
    rows = list(canvas.instances())
    z = _tensor(text["z"], 1, opt.z_dim)
    noise = torch.zeros(1, max(rows) + 1, 2, opt.noise_nc)
    noise[0, rows] = _tensor(text["noise"], len(rows), 2, opt.noise_nc)
    values = [np.nan if value is None else float(np.clip(float(value), 0, 2)) for value in text["spread"]]
    spread = torch.ones(max(rows) + 2)
    spread[[*rows, -1]] = torch.from_numpy(np.array(values, np.float32).reshape(len(rows) + 1))
    truncation = float(np.clip(float(text["truncation"]), 0, 2))
    step = Step("saved", editor.model, canvas, Drawn(Styles(z, noise), spread), truncation=truncation)
    locked = frozenset(int(i) for i in text["locked"]) & canvas.instances().keys()
    return dataclasses.replace(editor.begin(step), locked=locked)


def _png(ids: np.ndarray) -> str:
    target = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8 if ids.max() < 256 else np.uint16)).save(target, "PNG", optimize=True)
    return base64.b64encode(target.getvalue()).decode()


def _ids(text: str, size: tuple[int, int]) -> np.ndarray:
    ids = to_ids(read_image("the saved picture", size[0] * size[1], base64.b64decode(text, validate=True)),
                 "the saved picture").astype(np.int32)
    if ids.shape != tuple(size):
        raise UserError("the saved picture has another size than this model's")
    return ids


def _numbers(values: torch.Tensor) -> str:
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def _tensor(text: str, *shape: int) -> torch.Tensor:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32).reshape(shape)
    if not (np.abs(values) <= _LARGEST).all():  # nor NaN
        raise ValueError("styles out of range")
    return torch.from_numpy(values)
