"""The report of check_data.py: what is in a data set, what is wrong with it, and which options it needs."""
import functools
import os
import shlex
import statistics
from collections import Counter
from typing import Any

from data.inspection import GEOMETRY, OUTSIDE, Findings, Problem, find, inspect
from data.kinds import DATASETS, class_names
from data.loading import create_dataloader
from data.sample import SampleReader
from options.options import Options
from util.errors import UserError, shortened
from util.parallel import run_parallel
from util.progress import counted

SHOWN = 10  # lines of a long list
WIDTH = 110  # characters of a line of the table of classes
Summary = dict[str, Any]  # what the JSON file says, too


def build_report(opt: Options) -> Summary:
    """Read the splits ``opt.phases``. The first one (with --train_eval: all) decides whether training would run.

    :raises UserError: the options do not say where the files are.
    """
    splits = [check_split(for_phase(opt, phase)) for phase in opt.phases]
    for split in splits[1:] if splits[0]["classes"] else []:
        known = {row["id"] for row in splits[0]["classes"]}
        if alone := [described(row) for row in split["classes"] if row["id"] not in known]:
            split["notes"].append(f"{len(alone)} classes are in this split only, so that training never sees them: "
                                  f"{shortened(alone, 6)}")
    changes = needed_options(opt, {row["id"] for split in splits for row in split["classes"]})
    decisive = splits if opt.train_eval else splits[:1]
    stops = [split["stops_at"] for split in decisive if split["stops_at"]]
    return {"dataset_mode": opt.dataset_mode, "dataroot": opt.dataroot, "runs": not stops,
            "stops_at": stops[0] if stops else None, "num_problems": sum(split["num_problems"] for split in decisive),
            "options": changes, "command": command_line(opt, changes), "splits": splits}


def for_phase(opt: Options, phase: str) -> Options:
    """The options under which a split is read: the test split as evaluation during training reads it."""
    if phase == "train":
        return opt.replace(phase=phase)
    alone = len(opt.phases) == 1
    return opt.for_evaluation(phase).replace(needs_photos=opt.use_vae and alone)


def check_split(opt: Options) -> Summary:
    reader = SampleReader(opt)
    stops_at, problems = None, []
    try:
        files = create_dataloader(opt).dataset.files
    except UserError as error:
        stops_at = str(error)
        files, problems = find(opt)
    look = functools.partial(inspect, reader=reader)
    samples = run_parallel(look, files, opt.workers, f"{opt.phase} split", "image")
    problems += [problem for sample in samples for problem in sample.problems]
    if stops_at is None and problems:
        stops_at = problems[0].message
    return summarize(opt, samples, problems, stops_at)


def summarize(opt: Options, samples: list[Findings], problems: list[Problem], stops_at: str | None) -> Summary:
    by_kind: dict[str, list[dict[str, str]]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append({"file": problem.file, "message": problem.message})
    counts = [sample.instances for sample in samples if sample.instances is not None]
    instances = {"median": statistics.median(counts), "max": max(counts)} if counts else None
    if instances:
        instances["max_file"] = next(s.files.instance for s in samples if s.instances == instances["max"])
    classes = class_table(opt, samples)
    return {
        "phase": opt.phase,
        "images": len([sample for sample in samples if sample.files.label]),
        "stops_at": stops_at,
        "files": {kind: forms_of(samples, field) for kind, field in
                  (("label maps", "label"), ("photos", "photo"), ("instance maps", "instance"))},
        "classes": classes,
        "instances_per_image": instances,
        "notes": notes(opt, samples, classes),
        "doubts": doubts(opt, samples, classes),
        "problems": by_kind,
        "num_problems": max(len(problems), int(stops_at is not None)),
    }


def forms_of(samples: list[Findings], field: str) -> Summary:
    """How many files of a kind there are, and how many of each mode and size."""
    forms = [sample.forms[field] for sample in samples if field in sample.forms]
    return {"found": sum(getattr(sample.files, field) is not None for sample in samples),
            "modes": dict(Counter(form.mode for form in forms).most_common()),
            "sizes": {f"{width}x{height}": number for (width, height), number
                      in Counter(form.size for form in forms).most_common()}}


def class_table(opt: Options, samples: list[Findings]) -> list[Summary]:
    """A row for every id in use, ascending."""
    pixels, images = Counter(), Counter()
    for sample in samples:
        pixels.update(dict(zip(sample.ids, sample.pixels, strict=True)))
        images.update(sample.ids)
    names, inside = class_names(opt), set(range(opt.num_classes))
    if opt.contain_dontcare_label:
        names[opt.dont_care] = "don't care"
        inside.add(opt.dont_care)
    return [{"id": i, "name": names.get(i), "share": pixels[i] / pixels.total(), "images": images[i],
             "outside": i not in inside} for i in sorted(images)]


def notes(opt: Options, samples: list[Findings], classes: list[Summary]) -> list[str]:
    """What is good to know, though nothing is wrong."""
    found = []
    modes = sorted({s.forms["photo"].mode for s in samples if "photo" in s.forms} - {"RGB"})
    if modes:
        found.append(f"photos of mode {', '.join(modes)} are converted to RGB")
    for kind in dict.fromkeys(sample.turned.partition(": ")[2] for sample in samples if sample.turned):
        files = [sample.turned.partition(": ")[0] for sample in samples if sample.turned.endswith(f": {kind}")]
        found.append(f"{len(files)} files have an orientation tag; each {kind}: {shortened(files, 3)}")
    blank = [sample.files.label for sample in samples if len(sample.ids) == 1]
    if blank:
        found.append(f"{len(blank)} label maps have a single id: {shortened(blank, 3)}")
    with_maps = [sample for sample in samples if sample.instances is not None]
    same = [sample for sample in with_maps if sample.same_as_label]
    if same:
        found.append(f"{len(same)} of {len(with_maps)} instance maps divide the image as the label map does: all "
                     "pixels of a class share one style (make_instances.py --split_components takes them apart)")
    if colored := [s for s in samples if "instance" in s.forms and s.forms["instance"].mode.startswith("RGB")]:
        found.append(f"{len(colored)} instance maps are in colours: every colour is an instance")
    spanning = [sample for sample in with_maps if sample.spanning]
    if spanning:
        most = max(spanning, key=lambda sample: sample.spanning)
        found.append(f"{sum(sample.spanning for sample in spanning)} instances in {len(spanning)} images span several "
                     "classes, which is allowed: each class takes its part of the instance's noise "
                     f"(most, {most.spanning}: {most.files.instance})")
    if not with_maps and opt.norm_mode == "inade" and (opt.no_instance or opt.dataset_mode == "custom"):
        found.append("without instance maps, the label maps serve: all pixels of a class share one style")
    used = sum(not row["outside"] for row in classes)
    if classes and used < opt.num_classes:
        found.append(f"{used} of the {opt.num_classes} classes are in use")
    return found


def doubts(opt: Options, samples: list[Findings], classes: list[Summary]) -> list[str]:
    """What can be read, but may mean something else."""
    shares = {row["id"]: row["share"] for row in classes}
    kind = DATASETS[opt.dataset_mode]
    found = kind.doubts(shares) if classes and not opt.label_map else []
    if opt.contain_dontcare_label and not kind.last_id_is_class and opt.label_nc in shares.keys() - {opt.dont_care}:
        found.append(f"the id {opt.label_nc} counts as don't care with --label_nc {opt.label_nc} "
                     "--contain_dontcare_label; if it is a class, give a larger --label_nc")
    thick = {i for sample in samples for i in set(sample.ids) - set(sample.thin)}
    if thin := [row for row in classes if row["id"] not in thick]:
        file = next(sample.files.label for sample in samples if thin[0]["id"] in sample.ids)
        found.append(f"{len(thin)} ids occur only on borders between lower and higher ids, as in label maps that were "
                     f"scaled or compressed like photos: {shortened([described(row) for row in thin], 6)} ({file}); "
                     "scale label maps with nearest neighbour, and store them as PNG")
    shown: dict[int, dict[tuple[int, int, int], str]] = {}
    for sample in samples:
        for number, color in sample.palette.items():
            shown.setdefault(number, {}).setdefault(color, sample.files.label)
    if several := {number: colors for number, colors in shown.items() if len(colors) > 1}:
        number, colors = next(iter(several.items()))
        (color, file), (other, other_file) = list(colors.items())[:2]
        found.append(f"palettes differ: {len(several)} ids are shown in several colours, such as {number} in {color} "
                     f"({file}) and {other} ({other_file}). Ids are positions in the palette; if colours are meant, "
                     "give --label_colors")
    return found


def described(row: Summary) -> str:
    return f"{row['id']} {row['name']}" if row["name"] else str(row["id"])


def needed_options(opt: Options, ids: set[int]) -> dict[str, Any]:
    """--label_nc and --contain_dontcare_label that take in all ``ids`` of the label files."""
    value = opt.dont_care if opt.dont_care_id is not None else 255
    changes = {}
    if opt.dont_care_id is None and max(ids, default=0) == 65535 and 65534 not in ids:  # 255, in files of 16 bits
        value = changes["dont_care_id"] = 65535
    dont_care = opt.contain_dontcare_label or (value in ids and value - 1 not in ids and max(ids) == value)
    needed = max(ids - {value} if dont_care else ids, default=0) + 1
    if dont_care and value == 255 and opt.dont_care_id is None and needed > 255:
        changes["dont_care_id"] = 255  # as it is counted here
    fits = needed <= opt.num_classes
    own = opt.dataset_mode == "custom" and "label_nc" not in opt.given and ids  # its default says nothing
    return {"label_nc": opt.label_nc if fits and not own else needed, "contain_dontcare_label": dont_care,
            **changes}


def command_line(opt: Options, changes: dict[str, Any]) -> str:
    """How to train: the options given, and those of ``changes`` that change something. Without --name, the experiment
    is called after the data."""
    if "name" not in opt.given:
        changes = {**changes, "name": os.path.basename(os.path.abspath(opt.dataroot)) or opt.dataset_mode}
    names = dict.fromkeys(["name", "dataset_mode", "dataroot", *opt.given])
    names |= dict.fromkeys(name for name, value in changes.items() if value != getattr(opt, name))
    words = ["python", "train.py"]
    for name in names:
        value = changes.get(name, getattr(opt, name))
        if value is True:
            words.append(f"--{name}")
        elif value is not False:  # with "=", since a value may begin with "-"
            words += [f"--{name}={value}"] if str(value).startswith("-") else [f"--{name}", str(value)]
    return shlex.join(words)


# ---- printing ----

def print_report(report: Summary) -> None:
    for split in report["splits"]:
        print_split(split)
    print_advice(report)


def print_split(split: Summary) -> None:
    print(f"\n== {split['phase']} split: {counted(split['images'], 'label map')} ==")
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
    for doubt in split["doubts"]:
        print(f"DOUBT: {doubt}")
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


def print_advice(report: Summary) -> None:
    splits = report["splits"]
    kinds = set(splits[0]["problems"])
    for line in report["missing"]:
        print(f"MISSING on this machine: {line}")
    if report["runs"] and report["missing"]:
        headline = "With what is missing, training would run:"
    elif report["runs"]:
        headline = "Training would run:" if splits[0]["phase"] == "train" else "Testing would run. To train:"
    elif kinds == {OUTSIDE}:
        headline = "If all these ids are classes, use this (if not, fix the label maps):"
    elif OUTSIDE in kinds:
        headline = "Fix the problems above. Then use this, which covers all ids found (fixed label maps may need less):"
    elif kinds and kinds <= {GEOMETRY}:
        headline = "Change the options as described above, and add them to:"
    else:
        headline = "Fix the problems above. Then:"
    if report["runs"] and splits[0]["doubts"]:
        headline = f"{headline[:headline.index(' run')]} run, but see DOUBT above before it does:"
    elif report["runs"] and report["missing"]:
        headline = f"The data are in order. {headline}"
    print(f"\n{headline}\n\n    {report['command']}\n")
    for split in splits[1:]:
        if split["stops_at"]:
            print(f"Testing would stop: {split['stops_at']}\n")


def tally(numbers: dict[str, int]) -> str:
    """``640x480 (9), 480x640 (3) and 2 more``."""
    return shortened([f"{name} ({number})" if len(numbers) > 1 else name for name, number in numbers.items()], 4)


def head(lines: list[str]) -> list[str]:
    """The first lines of a list, and how many more there are."""
    return lines[:SHOWN] + ([f"… and {len(lines) - SHOWN} more (--json FILE has all)"] if len(lines) > SHOWN else [])
