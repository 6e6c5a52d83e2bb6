"""COCO-Stuff: ``{train,val}_{img,label,inst}/``."""
from collections.abc import Iterator

from data.dataset_kind import DatasetKind, InstanceJob, Sources, mirrored_splits
from options.options import Options

_UNUSED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})  # of the 182 ids, those that no annotation has


class COCOStuff(DatasetKind):
    class_names = (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
        "fire hydrant", "street sign", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep",
        "cow", "elephant", "bear", "zebra", "giraffe", "hat", "backpack", "umbrella", "shoe", "eye glasses",
        "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat",
        "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "plate", "wine glass", "cup", "fork",
        "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza",
        "donut", "cake", "chair", "couch", "potted plant", "bed", "mirror", "dining table", "window", "desk",
        "toilet", "door", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster",
        "sink", "refrigerator", "blender", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
        "toothbrush", "hair brush", "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet",
        "cage", "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter",
        "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other",
        "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other", "fruit", "furniture-other", "grass",
        "gravel", "ground-other", "hill", "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss",
        "mountain", "mud", "napkin", "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform",
        "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea",
        "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw", "structural-other",
        "table", "tent", "textile-other", "towel", "tree", "vegetable", "wall-brick", "wall-concrete", "wall-other",
        "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops", "window-blind",
        "window-other", "wood",
    )
    instance_remedy = ("run python make_instances.py --path DATA --dataset coco --split_components, or give "
                       "--no_instance to use the label maps")
    instances_made_from = "{train,val}_label/*.png"
    instances_may_be_foreign = True
    never = _UNUSED | {*range(182, 255)}
    never_because = ("COCO-Stuff's maps, whose values are the category - 1, never do. Maps with the categories "
                     "themselves (1..182, 0 none) have them; give those --label_map with lines `OLD OLD-1`, `0 drop`")

    def sources(self, opt: Options) -> Sources:
        return Sources.of_split(opt.dataroot, "train" if opt.phase == "train" else "val")

    def ignored_ids(self, opt: Options) -> set[int]:
        return super().ignored_ids(opt) | _UNUSED

    def instance_jobs(self, root: str) -> Iterator[InstanceJob]:
        return mirrored_splits(root, ("train", "val"))
