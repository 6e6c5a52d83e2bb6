"""The models that ship: their cards, their drawn layouts, and that one instance can change alone."""
import re

import numpy as np
import pytest
from PIL import Image

from datasets import draw_faces, draw_people
from models.synthesis import Synthesizer
from tests.conftest import ROOT
from util.palette import cielab, class_table

SHIPPED = {
    # drawings, classes by id, what every drawing shows; a drawing, and the classes in it that get new styles
    "ccp": (draw_people.PEOPLE, draw_people.CLASSES, {"skin", "hair"}, "coat_and_skirt", ["coat"]),
    "faces": (draw_faces.FACES, draw_faces.CLASSES, {"skin", "nose", "l_eye", "r_eye"}, "long_hair", ["hair"]),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_layouts_that_ship_are_those_that_are_drawn(name):
    drawings, classes, shown, _, _ = SHIPPED[name]
    folder = ROOT / "checkpoints" / name
    assert {path.stem for path in (folder / "examples/val_label").iterdir()} == {drawn.__name__ for drawn in drawings}
    for drawing in drawings:
        label = drawing().label
        assert np.array_equal(np.asarray(Image.open(folder / f"examples/val_label/{drawing.__name__}.png")), label)
        assert shown < {classes[k] for k in np.unique(label)} and 0.1 < (label > 0).mean() < 0.9
    names = [line.split(maxsplit=4)[4] for line in (folder / "examples/classes.txt").read_text().splitlines()]
    card = re.search(r"Class ids: (.*?)\.\n", (folder / "README.md").read_text(), re.DOTALL)[1]
    of_card = [re.sub(r"^\d+ | \(.*\)$", "", part) for part in " ".join(card.split()).split(", ")]
    assert names == of_card == list(classes)


def test_cielab():
    known = {(255, 255, 255): (100, 0, 0), (0, 0, 0): (0, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20),
             (0, 0, 255): (32.30, 79.19, -107.86), (5, 5, 5): (1.37, 0, 0)}
    assert np.allclose(cielab(list(known)), list(known.values()), atol=0.02)


@pytest.mark.parametrize("name", SHIPPED)
def test_colours_of_classes_differ_and_none_is_dark(name):
    """Of the classes that are drawn, still more; the first one that a palette has to give is that of skin."""
    drawings, classes, *_ = SHIPPED[name]
    first = draw_people.DRAWN if name == "ccp" else ()
    table = (ROOT / "checkpoints" / name / "examples/classes.txt").read_text()
    assert table == class_table(classes, first)
    lab = cielab([list(map(int, line.split()[:3])) for line in table.splitlines()])
    apart = np.linalg.norm(lab[:, None] - lab, axis=2) + 999 * np.eye(len(lab))
    drawn = np.unique([drawing().label for drawing in drawings])
    assert apart.min() > 14 and apart[np.ix_(drawn, drawn)].min() > 21  # 2 is just seen
    assert lab[:, 0].min() >= 56 and np.hypot(*lab.T[1:]).max() <= 54
    assert not first or sorted(first) == sorted(classes[k] for k in drawn if k)
    assert table.splitlines()[classes.index("skin")].startswith("240 190 160 ")


def test_the_left_parts_of_a_face_are_on_the_right_of_the_picture():
    """As CelebAMask-HQ has them: the left of the person."""
    label = draw_faces.short_hair().label
    for part in ("eye", "brow", "ear"):
        left, right = (np.nonzero(label == draw_faces.CLASSES.index(f"{side}_{part}"))[1].mean() for side in "lr")
        assert left > right


@pytest.mark.parametrize(("name", "times"), [("ccp", 6), ("faces", 1.5)])
def test_what_is_resampled_changes_alone(name, times):
    """The classes that get new styles change ``times`` as much as the rest, or more."""
    _, classes, _, drawing, resampled = SHIPPED[name]
    synthesizer = Synthesizer.load(ROOT / "checkpoints" / name)
    layout = synthesizer.read(str(ROOT / "checkpoints" / name / f"examples/val_label/{drawing}.png"))
    ids = [classes.index(kind) for kind in resampled]
    inside = np.isin(layout.layout.label[0].numpy(), ids)
    changes = []
    for seed in range(3):
        styles, others = (synthesizer.draw_styles(layout, [number]) for number in (seed, seed + 10))
        before, after = (synthesizer.pictures(layout, found)[0].astype(int)
                         for found in (styles, synthesizer.exchange(layout, styles, others, classes=ids)))
        assert before.std() > 20
        changes.append(np.abs(after - before).mean(2))
    change = np.mean(changes, 0)
    assert change[inside].mean() > times * change[~inside].mean() > 0
