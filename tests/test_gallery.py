"""The gallery: its page, its figures, and which instance it resamples."""
import json
import re

import numpy as np
import torch
from PIL import Image

from gallery import change_map, contact_sheet, foreground_instance
from tests.worlds import NETWORK, build_model, draw_world, succeed


def test_gallery(tmp_path, run):
    world = draw_world(tmp_path / "world")
    build_model("--checkpoints_dir", tmp_path, "--name", "exp", "--use_vae").save("latest")
    args = ["gallery.py", *NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--use_vae",
            "--layouts", 2, "--samples", 2, "--measured", 3]
    process = succeed(run(*args, "--gallery_dir", tmp_path / "full"))
    page = (tmp_path / "full" / "index.html").read_text()
    for words in ("of the whole change lies inside it", "between instances of one class"):
        assert words in process.stdout and words in page
    assert "white is a change of 64 of 255 or more" in page
    assert "reconstruction" in page and "real" in page and "only" in page and "resampled" in page
    for picture in re.findall(r'<img[^>]*src="([^"]+)"', page):
        assert (tmp_path / "full" / picture).exists()
    figures = json.loads((tmp_path / "full" / "figures.json").read_text())
    assert set(figures) == {"sample_spread", "real_spread", "inside_share", "area_share", "classes"}
    assert 0 < figures["area_share"] < figures["inside_share"] < 1

    succeed(run(*args, "--gallery_dir", tmp_path / "half", "--use_amp", "--without_photos"))
    assert not list((tmp_path / "half").rglob("*real*")) and list((tmp_path / "full").rglob("*real*"))
    for kind in ("sample_1", "reconstruction"):
        full, half = (np.asarray(Image.open(tmp_path / name / "images" / f"p0_{kind}.png")).astype(int)
                      for name in ("full", "half"))
        assert 0 < np.abs(full - half).mean() < 5  # bfloat16 has 8 bits

    for wrong, named in ((["--norm_mode", "spade"], "spade"), (["--layouts", 0], "--layouts"),
                         (["--gpu_ids=-1,-1"], "--gpu_ids -1,-1")):
        process = run(*args, *wrong)
        assert process.returncode == 2 and named in process.stderr and len(process.stderr.splitlines()) == 1


def test_foreground_instance():
    instance = torch.zeros(6, 6, dtype=torch.long)
    assert foreground_instance(instance) is None
    instance[0, 1:4] = 1  # touches a side
    assert foreground_instance(instance) == 1
    instance[2, 2], instance[4, 1:3] = 2, 3  # touch none
    assert foreground_instance(instance) == 3


def test_maps_of_change_have_one_scale():
    """So that what hardly changes looks black."""
    first = np.array([[[0, 0, 0], [255, 255, 255], [10, 20, 30], [100, 100, 100]]], np.uint8)
    last = np.array([[[0, 0, 0], [191, 191, 191], [20, 20, 22], [0, 100, 255]]], np.uint8)
    assert change_map(first, last).tolist() == [[0, 255, round(255 * 6 / 64), 255]]  # changes of 0, 64, 6 and 85


def test_contact_sheet():
    rows = [[np.zeros((8, 16, 3), np.uint8)] * 3, [np.full((8, 16), 50, np.uint8)]]
    sheet = contact_sheet(rows, width=32, gap=4)
    assert sheet.shape == (2 * 16 + 4, 3 * 32 + 2 * 4, 3)
    assert (sheet[:16, :32] == 0).all() and (sheet[20:, :32] == 50).all() and (sheet[20:, 32:] == 255).all()
