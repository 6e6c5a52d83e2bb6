"""ADE20K, scene parsing archive: ``{images,annotations,instances}/``, split by ``_train_`` or ``_val_`` in the name."""
import os
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored
from data.image_files import Source
from options.options import Options


class ADE20K(DatasetKind):
    """The class is the stored value: 0 other, 1..150. Published networks were trained without a shift."""

    class_names = (
        "other", "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
        "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car",
        "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence",
        "desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
        "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand",
        "path", "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge",
        "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove",
        "palm", "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus",
        "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television", "airplane",
        "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster",
        "stage", "van", "ship", "fountain", "conveyor belt", "canopy", "washer", "plaything", "swimming pool",
        "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step",
        "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket",
        "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "CRT screen",
        "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
    )
    instance_remedy = "run python make_instances.py --path DATA --dataset ade20k"
    instances_made_from = "annotations/*/*.png"
    last_id_is_class = True

    def sources(self, opt: Options) -> Sources:
        part = "_train_" if opt.phase == "train" else "_val_"
        return Sources(*(Source(os.path.join(opt.dataroot, kind), part=part, recursive=True)
                         for kind in ("annotations", "images", "instances")))

    def doubts(self, shares: dict[int, float]) -> list[str]:
        return ["has the id 255, but no 150: the annotations seem to have been shifted by one, with 255 for other; "
                "published networks take them as distributed, 0 for other and 1..150. Take those, or give --label_map "
                "with lines `OLD OLD+1` and `255 0`"] if 255 in shares and 150 not in shares else []

    def ignored_ids(self, opt: Options) -> set[int]:
        return {0}  # 150 is a class, also where --contain_dontcare_label counts it as the last

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        return mirrored(Source(os.path.join(root, "annotations"), recursive=True), os.path.join(root, "instances"))
