"""Defaults that ``--dataset_mode`` sets. They hold only until the user gives the option.

Testing scales images to the crop's size, so that nothing is cropped: there ``load_size`` is ``crop_size``.
"""
from typing import Any

_SQUARE = {"preprocess_mode": "resize_and_crop", "load_size": 286, "crop_size": 256, "display_winsize": 256}

DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    "ade20k": {**_SQUARE, "label_nc": 150, "contain_dontcare_label": True},
    "celeba": {**_SQUARE, "label_nc": 19},
    "cityscapes": {"preprocess_mode": "fixed", "load_size": 512, "crop_size": 512, "display_winsize": 512,
                   "aspect_ratio": 2.0, "num_upsampling_layers": "more", "label_nc": 35},
    "coco": {**_SQUARE, "label_nc": 182, "contain_dontcare_label": True},
    "custom": {**_SQUARE, "label_nc": 13},
    "deepfashion": {**_SQUARE, "load_size": 256, "label_nc": 8, "noise_nc": 8},
}


def dataset_defaults(dataset_mode: str, is_train: bool) -> dict[str, Any]:
    """Option name -> default of a key of ``DATASET_DEFAULTS``, in training or in testing."""
    defaults = DATASET_DEFAULTS[dataset_mode]
    return defaults if is_train else {**defaults, "load_size": defaults["crop_size"]}
