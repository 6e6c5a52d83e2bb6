"""Folders of results: what of them is measured, and what becomes of files that no run makes any more."""
import json
import os
from pathlib import Path

import numpy as np
import pytest

from metrics.images import list_images
from tests.data_helpers import build, refusal, write
from util.results import Results


def made(results: Results, names: str, kinds: tuple[str, ...] = ("input_label", "synthesized_image")) -> None:
    for name in names:
        for kind in kinds:
            write(Path(results.path(f"images/{kind}/{name}.png")), np.zeros((4, 4, 3), np.uint8))


def files(name: str) -> list[str]:
    return [f"images/{kind}/{name}.png" for kind in ("input_label", "synthesized_image")]


def relative(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in list_images(str(folder))]


def test_pictures_of_results_are_those_that_the_run_lists(tmp_path, capsys):
    results = Results(str(tmp_path), {"a": 1}, 0, "abc", files)
    made(results, "abcx")
    assert relative(tmp_path) == [f"images/synthesized_image/{name}.png" for name in "abc"]
    assert capsys.readouterr().err == f"{tmp_path}: 3 images, in images/synthesized_image (3)\n"
    made(results, "abc", ("synthesized_image_2", "animation"))
    assert len(relative(tmp_path)) == 6
    assert "synthesized_image (3), images/synthesized_image_2 (3)" in capsys.readouterr().err
    line = refusal(lambda: list_images(str(tmp_path / "images")))
    assert "maps of ids in input_label (4) as well as pictures in animation (3)" in line
    (tmp_path / "run.json").unlink()
    assert "maps of ids" in refusal(lambda: list_images(str(tmp_path)))
    assert len(list_images(str(tmp_path / "images" / "synthesized_image"))) == 4


@pytest.mark.parametrize("mode", ["ade20k", "cityscapes", "celeba", "coco", "custom", "deepfashion"])
def test_a_data_set_is_no_folder_of_pictures(tmp_path, capsys, mode):
    (_, photo, _), *_ = build(tmp_path, mode)
    assert "as well as pictures in" in refusal(lambda: list_images(str(tmp_path)))
    assert len(list_images(str(photo.parent))) == 3
    assert not capsys.readouterr().err
    sub = photo.parent / "more"
    for n in range(2):
        write(sub / f"{n}.png", np.zeros((4, 4, 3), np.uint8))
    assert len(list_images(str(photo.parent))) == 5
    assert capsys.readouterr().err == f"{photo.parent}: 5 images, in . (3), more (2)\n"


def test_other_settings_move_what_they_do_not_replace(tmp_path, capsys):
    results = Results(str(tmp_path), {"a": 1}, 0, "abc", files)
    made(results, "abc")
    write(Path(results.path("styles/a.png")), np.zeros((4, 4), np.uint8))
    (tmp_path / "mine.txt").touch()
    assert results.are_made(files("a"), [])

    fewer = Results(str(tmp_path), {"a": 1}, 0, "a", files)  # the same settings: nothing is lost
    assert fewer.are_made(files("a"), []) and fewer.are_made(files("c"), []) and not capsys.readouterr().out
    assert len(relative(tmp_path)) == 3
    more = Results(str(tmp_path), {"a": 1}, None, "abcd", files)
    assert more.seed == 0 and more.are_made(files("c"), [])
    assert json.loads((tmp_path / "run.json").read_text())["layouts"] == list("abcd")

    other = Results(str(tmp_path), {"a": 2}, 0, "ab", files)
    assert f"3 files of an earlier run, which this run does not replace, are now in {tmp_path}/earlier_1" \
        in capsys.readouterr().out
    assert not other.are_made(files("a"), [])
    assert relative(tmp_path) == [f"images/synthesized_image/{name}.png" for name in "ab"]
    assert sorted(os.listdir(tmp_path / "earlier_1" / "images" / "synthesized_image")) == ["c.png"]
    assert (tmp_path / "earlier_1" / "styles" / "a.png").exists() and (tmp_path / "mine.txt").exists()
    Results(str(tmp_path), {"a": 3}, 0, "b", files)
    assert (tmp_path / "earlier_2" / "images" / "input_label" / "a.png").exists()
