"""Read a whole data set and tell what is in it, what is wrong with it, and which options it needs.

    python -m data.check --dataset_mode cityscapes --dataroot DATA

takes the options of train.py. Both splits are read unless --phase chooses one. The exit status is 0 if training would
run with these options (with --phase test: if testing would), and 2 if not; the test split counts with --train_eval.
"""
import argparse
import functools
import json
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from data import DATASETS, create_dataloader
from data.inspection import GEOMETRY, OUTSIDE, Problem, Sample, find, inspect
from data.label_colors import LabelColors, read_label_colors
from data.pix2pix_dataset import DONT_CARE
from options import Options, TrainOptions
from util.errors import UserError, command
from util.files import check_writable, write_atomically
from util.parallel import available_cores, run_parallel

SHOWN = 10  # lines of a long list
WIDTH = 110  # characters of a line of the table of classes
Summary = dict[str, Any]


class CheckOptions(TrainOptions):
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--json", metavar="FILE", default=None, help="also write the report there, in full")
        parser.add_argument("--workers", type=int, default=available_cores(), help="processes that read")
        parser.set_defaults(gpu_ids="-1")

    def finish(self, opt: Options, given: set[str]) -> None:
        super().finish(opt, given)
        if opt.workers < 1:
            raise UserError(f"--workers {opt.workers}: must be at least 1")
        one_folder = getattr(opt, "label_dir", None)  # whatever the split
        opt.phases = (opt.phase,) if "phase" in given or one_folder else ("train", "test")
        opt.given = sorted(given - {"json", "workers", "phase"})


@command
def main() -> None:
    opt = CheckOptions().parse()
    if opt.json:
        check_writable(opt.json)
    colors = read_label_colors(opt.label_colors) if opt.label_colors else None
    splits = [check_split(for_phase(opt, phase), colors) for phase in opt.phases]
    for split in splits:
        print_split(split)
    changes = needed_options(opt, {row["id"] for split in splits for row in split["classes"]})
    line = command_line(opt, changes)
    decisive = [split for split in splits if split is splits[0] or opt.train_eval]
    stops = [split["stops_at"] for split in decisive if split["stops_at"]]
    if opt.json:
        report = {"dataset_mode": opt.dataset_mode, "dataroot": opt.dataroot, "runs": not stops,
                  "options": changes, "command": line, "splits": splits}
        write_atomically(opt.json, json.dumps(report, indent=1) + "\n")
    print_advice(splits, line, bool(stops))
    if stops:
        what = "testing" if opt.phases[0] != "train" else "training"
        others = sum(split["num_problems"] for split in decisive) - 1
        more = f" ({others} more above)" if others > 0 else ""
        raise UserError(f"{what} would stop: {stops[0]}{more}")


def for_phase(opt: Options, phase: str) -> Options:
    """The options under which a split is read: the test split as evaluation during training reads it."""
    if phase == "train":
        return opt.replace(phase="train")
    alone = len(opt.phases) == 1
    return opt.replace(phase=phase, isTrain=False, use_vae=opt.use_vae and alone, load_size=opt.crop_size,
                       serial_batches=True, no_flip=True)


def check_split(opt: Options, colors: LabelColors | None) -> Summary:
    """Read a split; what the report and the JSON file say of it."""
    stops_at, problems = None, []
    try:
        files = create_dataloader(opt).dataset.files
    except UserError as error:
        stops_at = str(error)
        files, problems = find(opt)
    look = functools.partial(inspect, opt=opt, colors=colors)
    samples = run_parallel(look, files, opt.workers, f"{opt.phase} split", "image")
    problems += [problem for sample in samples for problem in sample.problems]
    if stops_at is None and problems:
        stops_at = problems[0].message
    return summarize(opt, samples, problems, stops_at, colors)


def summarize(opt: Options, samples: list[Sample], problems: list[Problem], stops_at: str | None,
              colors: LabelColors | None) -> Summary:
    by_kind: dict[str, list[dict[str, str]]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append({"file": problem.file, "message": problem.message})
    counts = [sample.instances for sample in samples if sample.instances is not None]
    instances = {"median": statistics.median(counts), "max": max(counts)} if counts else None
    if instances:
        instances["max_file"] = next(s.files.instance for s in samples if s.instances == instances["max"])
    classes = class_table(opt, samples, colors)
    return {
        "phase": opt.phase,
        "images": len([sample for sample in samples if sample.files.label]),
        "stops_at": stops_at,
        "files": {kind: forms_of(samples, field) for kind, field in
                  (("label maps", "label"), ("photos", "photo"), ("instance maps", "instance"))},
        "classes": classes,
        "instances_per_image": instances,
        "notes": notes(opt, samples, classes),
        "problems": by_kind,
        "num_problems": max(len(problems), int(stops_at is not None)),
    }


def forms_of(samples: list[Sample], field: str) -> Summary:
    """How many files of a kind there are, and how many of each mode and size."""
    forms = [sample.forms[field] for sample in samples if field in sample.forms]
    return {"found": sum(getattr(sample.files, field) is not None for sample in samples),
            "modes": dict(Counter(form.mode for form in forms).most_common()),
            "sizes": {f"{width}x{height}": number for (width, height), number
                      in Counter(form.size for form in forms).most_common()}}


def class_table(opt: Options, samples: list[Sample], colors: LabelColors | None) -> list[Summary]:
    """A row for every id in use, ascending."""
    pixels, images = Counter(), Counter()
    for sample in samples:
        pixels.update(dict(zip(sample.ids, sample.pixels, strict=True)))
        images.update(sample.ids)
    names = dict(enumerate(DATASETS[opt.dataset_mode].class_names)) | (colors.names if colors else {})
    if opt.contain_dontcare_label:
        names[DONT_CARE] = "don't care"
    inside = {*range(opt.label_nc + int(opt.contain_dontcare_label)), *([DONT_CARE] * opt.contain_dontcare_label)}
    return [{"id": i, "name": names.get(i), "share": pixels[i] / pixels.total(), "images": images[i],
             "outside": i not in inside} for i in sorted(images)]


def notes(opt: Options, samples: list[Sample], classes: list[Summary]) -> list[str]:
    """What is no mistake, but good to know."""
    found = []
    modes = sorted({s.forms["photo"].mode for s in samples if "photo" in s.forms} - {"RGB"})
    if modes:
        found.append(f"photos of mode {', '.join(modes)} are converted to RGB")
    blank = [sample.files.label for sample in samples if len(sample.ids) == 1]
    if blank:
        found.append(f"{len(blank)} label maps have a single id: {shortened(blank, 3)}")
    with_maps = [sample for sample in samples if sample.instances is not None]
    same = [sample for sample in with_maps if sample.same_as_label]
    if same:
        found.append(f"{len(same)} of {len(with_maps)} instance maps divide the image as the label map does: all "
                     "pixels of a class share one style (make_instances.py --split_components takes them apart)")
    spanning = [sample for sample in with_maps if sample.spanning]
    if spanning:
        most = max(spanning, key=lambda sample: sample.spanning)
        found.append(f"{sum(sample.spanning for sample in spanning)} instances in {len(spanning)} images span several "
                     "classes, which is allowed: each class takes its part of the instance's noise "
                     f"(most, {most.spanning}: {most.files.instance})")
    if not with_maps and opt.norm_mode == "inade" and (opt.no_instance or opt.dataset_mode == "custom"):
        found.append("without instance maps, the label maps serve: all pixels of a class share one style")
    used = sum(not row["outside"] for row in classes)
    total = opt.label_nc + int(opt.contain_dontcare_label)
    if classes and used < total:
        found.append(f"{used} of the {total} classes are in use")
    return found


def needed_options(opt: Options, ids: set[int]) -> dict[str, Any]:
    """--label_nc and --contain_dontcare_label that take in all ``ids`` of the label files."""
    dont_care = opt.contain_dontcare_label or (DONT_CARE in ids and DONT_CARE - 1 not in ids and max(ids) == DONT_CARE)
    needed = max(ids - {DONT_CARE} if dont_care else ids, default=0) + 1
    fits = needed <= opt.label_nc + int(opt.contain_dontcare_label)
    own = opt.dataset_mode == "custom" and "label_nc" not in opt.given and ids  # its default says nothing
    return {"label_nc": opt.label_nc if fits and not own else needed, "contain_dontcare_label": dont_care}


def command_line(opt: Options, changes: dict[str, Any]) -> str:
    """Training with the options given, and with ``changes`` where they differ from what would be without them."""
    names = dict.fromkeys(["dataset_mode", "dataroot", *opt.given])
    names |= dict.fromkeys(name for name, value in changes.items() if value != opt._defaults[name])
    words = ["python", "train.py"]
    for name in names:
        value = changes.get(name, getattr(opt, name))
        words += [f"--{name}"] if value is True else [] if value is False else [f"--{name}", str(value)]
    return shlex.join(words)


# ---- the report ----

def print_split(split: Summary) -> None:
    print(f"\n== {split['phase']} split: {split['images']} label maps ==")
    if not split["images"]:
        print(f"   {split['stops_at']}")
        return
    for kind, files in split["files"].items():
        if files["found"]:
            print(f"{kind:<14} {files['found']:>6}   mode {tally(files['modes'])}   size {tally(files['sizes'])}")
        else:
            print(f"{kind:<14}   none")
    if instances := split["instances_per_image"]:
        print(f"instances per image: median {instances['median']:g}, max {instances['max']} ({instances['max_file']})")
    print_classes(split["classes"], split["images"])
    for note in split["notes"]:
        print(f"note: {note}")
    if split["stops_at"] and not split["problems"]:
        print(f"PROBLEM: {split['stops_at']}")
    for kind, problems in split["problems"].items():
        print(f"PROBLEM: {len(problems)} {kind}")
        for line in head([problem["message"] for problem in problems]):
            print(f"    {line}")


def print_classes(classes: list[Summary], images: int) -> None:
    if not classes:
        return
    print(f"label ids in use: {len(classes)} (id, share of pixels, number of images of {images}, name if known)")
    cells = [f"{'!' if row['outside'] else ' '}{row['id']:>5} {percent(row['share']):>7} {row['images']:>6}  "
             f"{row['name'] or ''}" for row in classes]
    width = max(map(len, cells)) + 3
    columns = max(1, WIDTH // width)
    rows = -(-len(cells) // columns)
    for start in range(rows):
        print("".join(f"{cell:<{width}}" for cell in cells[start::rows]).rstrip())
    if any(row["outside"] for row in classes):
        print("! outside the classes")


def percent(share: float) -> str:
    return "<0.01%" if share < 1e-4 else f"{share:.2%}"


def print_advice(splits: list[Summary], line: str, stops: bool) -> None:
    kinds = {kind for split in splits[:1] for kind in split["problems"]}
    if not stops:
        headline = "Training would run:" if splits[0]["phase"] == "train" else "Testing would run. To train:"
    elif kinds == {OUTSIDE}:
        headline = "If all these ids are classes, this takes them in (if not, mend the label maps):"
    elif OUTSIDE in kinds:
        headline = "Mend what is said above; then this, which takes in all ids found (mended label maps may need less):"
    elif kinds and kinds <= {GEOMETRY}:
        headline = "Change the options as said above, and add them to:"
    else:
        headline = "Mend what is said above; then:"
    print(f"\n{headline}\n\n    {line}\n")
    for split in splits[1:]:
        if split["stops_at"] and split["images"]:
            print(f"Testing would stop: {split['stops_at']}\n")


def tally(numbers: dict[str, int]) -> str:
    """``640x480 (9), 480x640 (3) and 2 more``."""
    return shortened([f"{name} ({number})" if len(numbers) > 1 else name for name, number in numbers.items()], 4)


def shortened(names: list[str], shown: int) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def head(lines: list[str]) -> Iterable[str]:
    """The first lines of a list, and how many are left out."""
    return lines[:SHOWN] + ([f"… and {len(lines) - SHOWN} more (--json FILE has all)"] if len(lines) > SHOWN else [])


if __name__ == "__main__":
    main()
