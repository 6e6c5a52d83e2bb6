"""Instance maps: renumbering against a pass for each id, and what PNG coding takes of the whole.

    python -m benchmarks.instances
    python -m benchmarks.instances --map gtFine/train/aachen/aachen_000000_000019_gtFine_instanceIds.png --json o.json

Maps are 2048x1024 of 16 bits, cells around random points, or those of --map. Both sides run alternately in one process.
Times are CPU seconds. ``loop / ours`` above 1 means that this project is faster. ``coding / whole`` is the time to
decode the source and encode the result, as a share of all that make_instances.py does for a map.
"""
import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL
from PIL import Image
from scipy.spatial import KDTree

from data.dataset_kind import InstanceJob
from data.image_files import read_ids, renumber
from data.instance_maps import Recipe, make_instance_map
from util.arguments import ArgumentParser, integer
from util.errors import command
from util.files import check_writable, write_atomically


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=integer(1, 34000), nargs="+", default=[30, 100, 300],
                        help="ids in a map (default: 30 100 300)")
    parser.add_argument("--map", nargs="+", default=[], metavar="FILE", help="measure with these maps instead")
    parser.add_argument("--repeats", type=integer(1), default=9,
                        help="runs of each side, after one to warm up (default 9)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    return parser.parse_args()


def cells(count: int) -> np.ndarray:
    """A map [1024, 2048] of ``count`` ids up to 34,000."""
    random = np.random.default_rng(0)
    points = random.random((count, 2)) * (1024, 2048)
    nearest = KDTree(points).query(np.argwhere(np.ones((1024, 2048), bool)))[1]
    return random.choice(34000, count, replace=False).astype(np.uint16)[nearest].reshape(1024, 2048)


def published_loop(ids: np.ndarray) -> np.ndarray:
    values = np.unique(ids)
    out = np.zeros(ids.shape, np.uint8 if len(values) <= 256 else np.uint16)
    for rank, value in enumerate(values):
        out[ids == value] = rank
    return out


def alternately(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """CPU seconds of each side's runs."""
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(repeats + 1):
        for function, seconds in zip((first, second), times, strict=True):
            start = time.process_time()
            function()
            if n:
                seconds.append(time.process_time() - start)
    return times


def measure(ids: np.ndarray, what: str, folder: str, repeats: int) -> list[dict[str, Any]]:
    """Print and return a row for the renumbering, and one for the whole."""
    job = InstanceJob(os.path.join(folder, "source.png"), os.path.join(folder, "made.png"))
    Image.fromarray(ids).save(job.source)
    ours = renumber(ids)
    assert np.array_equal(ours, published_loop(ids))

    def code() -> None:
        read_ids(job.source)
        Image.fromarray(ours).save(io.BytesIO(), "PNG")

    cases = {"loop / ours": (lambda: published_loop(ids), lambda: renumber(ids)),
             "coding / whole": (code, lambda: make_instance_map(job, Recipe(), overwrite=True))}
    rows = []
    for case, (first, second) in cases.items():
        one, other = alternately(first, second, repeats)
        row = {"map": what, "case": case, "first": one, "second": other, "ratio_min": min(one) / min(other),
               "ratio_median": statistics.median(one) / statistics.median(other)}
        print(f"{what:<28}{case:<16}{min(one) * 1e3:>10.2f}{min(other) * 1e3:>10.2f}{row['ratio_min']:>11.2f}"
              f"{row['ratio_median']:>9.2f}", flush=True)
        rows.append(row)
    return rows


@command
def main() -> None:
    args = parse()
    if args.json:
        check_writable(args.json)
    about = {"numpy": np.__version__, "pillow": PIL.__version__, "python": platform.python_version(), **vars(args)}
    print(", ".join(f"{name} {about[name]}" for name in ("numpy", "pillow", "python")))
    print(f"{'map':<28}{'case':<16}{'first ms':>10}{'second ms':>10}{'ratio min':>11}{'median':>9}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in args.map:
            rows += measure(read_ids(path), os.path.basename(path)[-27:], folder, args.repeats)
        for count in [] if args.map else args.ids:
            rows += measure(cells(count), f"{count} ids", folder, args.repeats)
    if args.json:
        write_atomically(args.json, json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
