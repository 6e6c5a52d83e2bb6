"""Judges that no loss of training is on: EfficientNet-Lite2, and a detector of faces. docs/evaluation.md says why a
network must not be judged by the one that trained it."""
import importlib.util
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.looks import Pairs
from metrics.distances import fid, unbiased_mmd
from metrics.extractors import LiteExtractor
from metrics.statistics import FeatureStatistics
from util.errors import UserError
from util.images import save_image

FACES = "facenet-pytorch"
_FACE_SIDE = 256  # pixels: pictures are enlarged to at least this, since small faces are not found
_FACE_SCORE = 0.9  # of what counts as a face
_SHEET = 8  # pairs in a picture of the nearest


def evenly(pictures: Tensor, count: int) -> Tensor:
    """``count`` of the pictures from all over them: the first ones may be of a single place."""
    return pictures[torch.arange(count) * len(pictures) // count]


class Lite2Judge:
    """Distances on features of EfficientNet-Lite2 from the real pictures of a split, and training pictures that are
    near.

    :raises UserError: the package with its weights is not installed.
    """

    def __init__(self, train: Pairs, val: Pairs, device: torch.device, batch_size: int):
        self._extractor, self._batch_size = LiteExtractor("lite2", device), batch_size
        self._train_pictures, self._train, self._real = train.pictures, *map(self._features, (train.pictures,
                                                                                             val.pictures))

    def _features(self, pictures: Tensor) -> Tensor:
        return torch.cat([self._extractor(part).cpu() for part in pictures.split(self._batch_size)])

    def figures(self, made: Mapping[str, Tensor], sheet: str | None = None) -> dict[str, Any]:
        """Of sets of pictures [N, 3, H, W], bytes, by name, and of as many training pictures as there are real ones:

        - ``frechet`` and 1000 times the ``kernel`` distance from the real ones;
        - ``nearest``: one minus the cosine of the angle between the features of a picture and of the training picture
          that is nearest; median and smallest of the set. Pictures that repeat training pictures are nearer to them
          than real ones of the test split (``real``) are.

        :param sheet: file for a picture of the nearest of the first set, each beside its training picture.
        """
        sets = {name: self._features(pictures) for name, pictures in made.items()}
        training = evenly(self._train, min(len(self._train), len(self._real)))
        figures: dict[str, Any] = {"frechet": {}, "kernel": {}, "nearest": {}}
        for name, features in {"train": training, **sets}.items():
            figures["frechet"][name] = fid(_statistics(features), _statistics(self._real))
            figures["kernel"][name] = 1000 * float(unbiased_mmd(features.numpy(), self._real.numpy()))
        for name, features in {"real": self._real, **sets}.items():
            distances, places = self._nearest(features)
            figures["nearest"][name] = {"median": float(distances.median()), "smallest": float(distances.min())}
            if sheet and name == next(iter(made)):
                self._save_sheet(sheet, made[name], distances, places)
        return figures

    def _nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Distance and place of the nearest training picture."""
        closest = (F.normalize(features) @ F.normalize(self._train).T).max(1)
        return 1 - closest.values, closest.indices

    def _save_sheet(self, path: str, pictures: Tensor, distances: Tensor, places: Tensor) -> None:
        order = distances.argsort()[:_SHEET]
        rows = [torch.cat([pictures[n], self._train_pictures[places[n]]], dim=1) for n in order]
        save_image(torch.cat(rows, dim=2).permute(1, 2, 0).numpy(), path)


def _statistics(features: Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    statistics.update(features)
    return statistics


def check_face_detector() -> None:
    """:raises UserError: the package of the detector is not installed."""
    if importlib.util.find_spec(FACES.replace("-", "_")) is None:
        raise UserError(f"--faces: the detector of faces is not installed; pip install --no-deps {FACES} requests "
                        "(it asks for an older PyTorch than it needs)")


def faces_found(made: Mapping[str, Tensor]) -> dict[str, float]:
    """Of sets of pictures [N, 3, H, W], bytes, by name: the share in which MTCNN (Zhang et al., 2016) finds a face."""
    from facenet_pytorch import MTCNN  # optional

    detector = MTCNN()
    return {name: float(np.mean([_has_face(detector, picture) for picture in pictures.permute(0, 2, 3, 1).numpy()]))
            for name, pictures in made.items()}


def _has_face(detector: Any, picture: np.ndarray) -> bool:
    image = Image.fromarray(picture)
    factor = max(1, math.ceil(_FACE_SIDE / min(image.size)))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    _, scores = detector.detect(image)
    return scores[0] is not None and bool(max(scores) > _FACE_SCORE)
