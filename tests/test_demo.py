"""The demo: what a visitor's session becomes, what the server takes, and the page in a browser."""
import asyncio
import base64
import dataclasses
import io
import os
import re
import socket
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.draw_people import CLASSES, PEOPLE
from demo import DemoOptions, choose_threads, serve
from editing.limits import MOST_BODY, LimitedRequests
from editing.session import MOST_INSTANCES, MOST_STEPS, WHOLE, Canvas, Editor
from editing.uploads import MOST_BYTES, layout_of, take_upload
from models.layout_styles import LayoutStyles
from models.networks.styles import Styles
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options import TestOptions
from tests.browser import chromium, resize
from tests.conftest import ROOT
from util.errors import UserError

SIZE, NUM_CLASSES = 64, 5
NETWORK = ["--gpu_ids", "-1", "--dataset_mode", "custom", "--label_nc", str(NUM_CLASSES), "--ngf", "4", "--noise_nc",
           "8", "--z_dim", "16", "--load_size", str(SIZE), "--crop_size", str(SIZE), "--init_variance", "1"]
ROWS = np.arange(SIZE) * 3 // SIZE
INSTANCE = (3 * ROWS[:, None] + ROWS).astype(np.int32)  # 9 instances, which are 3x3 blocks, of 5 classes
LABEL = INSTANCE % NUM_CLASSES


def make_editor(*args: str) -> Editor:
    torch.manual_seed(0)
    return Editor(Synthesizer(Pix2PixModel(TestOptions().parse([*NETWORK, *args]))), {1: "car"})


@pytest.fixture(scope="module")
def editor():
    return make_editor("--use_vae")


@pytest.fixture
def session(editor):
    torch.manual_seed(1)
    return editor.start(Canvas(LABEL, INSTANCE))


def change(first, second) -> np.ndarray:
    return np.abs(first.step.picture.astype(int) - second.step.picture).mean(2)


def given(session) -> Styles:
    """What the network gets."""
    return session.step.current().truncated()


def changed_rows(first, second) -> list[int]:
    a, b = given(first), given(second)
    rows = (a.noise != b.noise).flatten(2).any(2)[0].nonzero()[:, 0].tolist()
    return [*rows, WHOLE] if (a.z != b.z).any() else rows


# ---- sessions ----


def test_one_instance_is_resampled(editor, session):
    other = editor.resample(session, 4)
    assert changed_rows(session, other) == [4]
    inside = INSTANCE == 4
    assert change(session, other)[inside].mean() > 2 * change(session, other)[~inside].mean()
    assert changed_rows(session, editor.resample(session, WHOLE)) == [WHOLE]
    assert changed_rows(session, editor.resample(session)) == [*range(9), WHOLE]
    with pytest.raises(UserError, match="no instance 9"):
        editor.resample(session, 9)


def test_what_is_locked_stays(editor, session):
    locked = session.toggle_lock(4).toggle_lock(1)
    assert changed_rows(locked, editor.resample(locked)) == [0, 2, 3, 5, 6, 7, 8]  # and z, which is of all of them
    assert 4 not in changed_rows(locked, editor.truncate(locked, 0.5))
    with pytest.raises(UserError, match="class 4 is locked"):
        editor.resample(locked, 4)
    assert editor.resample(locked.toggle_lock(4), 4).locked == {1}
    with pytest.raises(UserError, match="no instance -1"):
        session.toggle_lock(WHOLE)


def test_no_method_changes_a_session(editor, session):
    """Visitors start from the same layouts, and history is shared by what comes after it."""
    arrays = [session.step.picture, session.step.canvas.label, session.step.canvas.instance,
              session.step.styles.styles.z, session.step.styles.styles.noise, session.step.styles.spread]
    before = [array.copy() if isinstance(array, np.ndarray) else array.clone() for array in arrays]
    later = editor.blend(editor.resample(session.toggle_lock(3)), 0.5)
    later = editor.paint(editor.truncate(later, 0.3), 2, 5, [(9, 9)])
    assert len(later.steps) == 5 and len(session.steps) == 1 and not session.locked
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


def test_history(editor, session):
    first, second = editor.resample(session, 0), editor.resample(editor.resample(session, 0), 1)
    assert second.undo().step is second.steps[1] and second.undo().redo().step is second.step
    assert session.undo() is not None and session.undo().position == 0 and second.redo().position == 2
    assert [step.what for step in editor.resample(second.go_to(0), 2).steps] == ["sample", "class 2"]
    assert first.step.thumbnail.startswith(b"RIFF")
    with pytest.raises(UserError, match="history"):
        second.go_to(3)
    many = dataclasses.replace(second, steps=second.steps[:1] * MOST_STEPS, position=MOST_STEPS - 1)
    assert len(editor.resample(many, 0).steps) == MOST_STEPS and editor.resample(many, 0).position == MOST_STEPS - 1


def test_blend(editor, session):
    after = editor.resample(session, 4)
    assert np.array_equal(editor.blend(after, 0).step.picture, session.step.picture)
    assert np.array_equal(editor.blend(editor.blend(after, 0.3), 1).step.picture, after.step.picture)
    half = editor.blend(after, 0.5)
    assert changed_rows(half, after) == changed_rows(half, session) == [4] and len(half.steps) == len(after.steps) + 1
    expected = given(session).between(given(after), 0.5)
    assert torch.allclose(given(half).noise, expected.noise, atol=1e-6)
    # what comes next starts from the blend
    assert changed_rows(half, editor.resample(half, 1)) == [1]
    assert editor.blend(session, 0.5) is session


def test_truncation(editor, session):
    half = editor.truncate(session, 0.5)
    assert torch.equal(given(half).noise, 0.5 * given(session).noise)
    assert torch.equal(given(half).z, 0.5 * given(session).z)
    assert np.array_equal(editor.truncate(half, 1).step.picture, session.step.picture)
    assert not given(editor.truncate(session, 0)).noise.any()
    later = editor.truncate(editor.resample(half, 1), 0.2)
    assert later.step.truncation == 0.2 and later.undo().step.truncation == 0.5
    torch.manual_seed(5)
    drawn = given(editor.resample(half, 2)).noise[0, 2]
    torch.manual_seed(5)
    assert torch.equal(drawn, 0.5 * given(editor.resample(session, 2)).noise[0, 2])


def photo(editor, label=LABEL, instance=INSTANCE):
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return editor.synthesizer.layout(label, instance, pixels)


def test_styles_of_a_photo(editor, session):
    batch = photo(editor)
    seen = editor.synthesizer.reference(batch)
    taken = editor.take_styles(session.toggle_lock(4), editor.seen(batch, "photo"))
    assert changed_rows(session, taken) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(given(taken).noise[0, 3], torch.from_numpy(seen.mu[3]))
    scaled = editor.truncate(taken, 0.5)  # of the prior alone
    assert torch.equal(given(scaled).noise[0, 3], given(taken).noise[0, 3])
    ends = [given(editor.truncate(one, 0.5)) for one in (session.toggle_lock(4), taken)]
    half = given(editor.blend(editor.truncate(taken, 0.5), 0.5))
    assert torch.allclose(half.noise, ends[0].between(ends[1], 0.5).noise, atol=1e-6) and torch.equal(half.z, ends[0].z)
    # in another layout by class, class 2 here is instances 2 and 7
    two = np.full_like(LABEL, 2)
    twos = editor.seen(photo(editor, two, np.zeros_like(two)), "photo")
    other = editor.take_styles(session, twos)
    assert changed_rows(session, other) == [2, 7]
    with pytest.raises(UserError, match="has a class"):
        editor.take_styles(session.toggle_lock(2).toggle_lock(7), twos)
    with pytest.raises(UserError, match="encoder"):
        make_editor().seen(batch, "photo")


def test_a_stroke_is_a_new_instance(editor, session):
    painted = editor.paint(session, 1, 4, [(10, 10), (10, 30)])
    y, x = np.mgrid[:SIZE, :SIZE]
    mask = painted.step.canvas.instance == 9
    distance = np.hypot(x - 10, y - y.clip(10, 30))
    assert mask[distance < 3].all() and not mask[distance > 5.5].any()
    assert (painted.step.canvas.label == np.where(mask, 1, LABEL)).all() and painted.step.what == "car painted"
    assert changed_rows(session, dataclasses.replace(painted, steps=session.steps, position=0)) == []
    assert torch.equal(given(painted).noise[:, :9], given(session).noise) and given(painted).noise.shape[1] == 10
    more = editor.paint(painted, 1, 4, [(10, 30), (40, 30)], new_instance=False)
    assert more.step.canvas.instance[30, 38] == 9 and torch.equal(given(more).noise, given(painted).noise)
    assert editor.paint(painted, 2, 4, [(10, 30)], new_instance=False).step.canvas.instance[30, 10] == 10
    hidden = editor.paint(session.toggle_lock(8), 0, 17, [(53, 53)])  # instance 8 is gone: its number is free again
    assert not hidden.locked and hidden.step.canvas.instance[53, 53] == 8 and changed_rows(session, hidden) == [8]
    assert editor.paint(session, 1, 4, [(-90, 5)]) is session
    for wrong in ((NUM_CLASSES, 4, [(1, 1)]), (-1, 4, [(1, 1)]), (1, 0, [(1, 1)]), (1, 1e9, [(1, 1)]), (1, 4, []),
                  (1, 4, [(1, np.nan)]), (1, 4, [(1, 1)] * 2001), (1, 4, [(1e30, 1)])):
        with pytest.raises(UserError, match="no stroke"):
            editor.paint(session, *wrong)
    all_ids = np.arange(SIZE * SIZE, dtype=np.int32).reshape(SIZE, SIZE) % MOST_INSTANCES
    full = editor.start(Canvas(np.zeros_like(LABEL), all_ids))
    with pytest.raises(UserError, match="256 instances"):
        editor.paint(full, 1, 1, [(1, 1)])


def test_styles_go_by_the_ids_of_the_canvas(editor):
    many = editor.start(Canvas(LABEL, np.arange(SIZE * SIZE, dtype=np.int32).reshape(SIZE, SIZE) // 13))
    painted = editor.paint(many, 1, 4, [(1, 1), (60, 1)])  # several are gone, but none is renumbered
    last = int(painted.step.canvas.instance.max())
    assert last == many.step.canvas.instance.max() > 255
    assert torch.equal(given(painted).noise[:, last], given(many).noise[:, last])
    assert changed_rows(painted, editor.resample(painted, last)) == [last]


def test_layouts_and_downloads_have_the_colours_of_the_data_set(tmp_path):
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing.page import Page, Studio

    (tmp_path / "classes.txt").write_text("9 8 7 1 car\n")
    editor = make_editor("--dataroot", str(tmp_path))
    stage = Page([Studio("", editor, [])])._view(session := editor.start(Canvas(LABEL, INSTANCE)))["stage"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(stage["label"].partition(",")[2]))))
    assert stage["instances"][1]["color"] == "#090807" and (shown[LABEL == 1] == (9, 8, 7)).all()
    with zipfile.ZipFile(io.BytesIO(editor.download(session))) as archive, archive.open("label.png") as file:
        assert np.array_equal(np.asarray(Image.open(file).convert("RGB")), shown)


def test_without_instance_maps_a_class_has_one_style():
    editor = make_editor("--no_instance")
    session = editor.start(Canvas(LABEL, LABEL))
    painted = editor.paint(editor.paint(session, 1, 4, [(5, 5)]), 1, 4, [(60, 60)])
    assert np.array_equal(painted.step.canvas.instance, painted.step.canvas.label)
    assert changed_rows(session, painted) == []
    blank = editor.start(editor.blank(0))
    grown = editor.paint(blank, 3, 5, [(30, 30)])
    assert list(grown.step.canvas.instances()) == [0, 3] and given(grown).noise.shape[1] == 4
    assert changed_rows(grown, editor.resample(grown, 3)) == [3]


def test_download(editor, session, tmp_path):
    session = editor.blend(editor.truncate(editor.resample(editor.paint(session, 1, 4, [(9, 9)]), 9), 0.7), 0.4)
    with zipfile.ZipFile(io.BytesIO(editor.download(session))) as archive:
        archive.extractall(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "label.png", "instances.png", "styles.npz"}
    layout = editor.synthesizer.read(str(tmp_path / "label.png"), str(tmp_path / "instances.png"))
    styles = LayoutStyles.read(str(tmp_path / "styles.npz"), 16, 8)
    assert styles.partners(LayoutStyles.of(layout.layout)) == {i: i for i in range(10)}
    again = editor.synthesizer.pictures(layout, Styles(*map(torch.from_numpy, (styles.z, styles.noise))))[0]
    assert np.array_equal(again, session.step.picture)
    assert np.array_equal(again, np.asarray(Image.open(tmp_path / "picture.png")))


# ---- uploads and requests ----


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    image.save(target, kind)
    return target.getvalue()


def test_uploads_are_as_files_are(editor, tmp_path):
    rng, reader = np.random.default_rng(0), editor.synthesizer._sample_reader()
    images = {"photo": Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)),
              "label": Image.fromarray(rng.integers(0, NUM_CLASSES, (90, 120), dtype=np.uint8)),
              "instance": Image.fromarray(rng.integers(0, 9, (90, 120), dtype=np.uint8))}
    uploads = {kind: take_upload(file_of(image), f"C/{kind}.png", kind, reader) for kind, image in images.items()}
    for kind, image in images.items():
        image.save(tmp_path / f"{kind}.png")
    found = layout_of(uploads, editor.synthesizer, with_photo=True)
    expected = editor.synthesizer.read(*(str(tmp_path / f"{kind}.png") for kind in ("label", "instance", "photo")))
    assert torch.equal(found.layout.label, expected.layout.label) and torch.equal(found.image, expected.image)
    assert torch.equal(found.layout.instance, expected.layout.instance)
    assert layout_of(uploads, editor.synthesizer, with_photo=False).image is None
    with pytest.raises(UserError, match=r"photo\.png: 120x90, but its label map label\.png is 8x8"):
        layout_of({**uploads, "label": uploads["label"]._replace(size=(8, 8))}, editor.synthesizer, with_photo=True)
    with pytest.raises(UserError, match="no label map"):
        layout_of({}, editor.synthesizer, with_photo=True)


@pytest.mark.parametrize(("content", "kind", "expected"), [
    (b"<script>", "label", r"cannot read a<b>\.png \(not an image\)"),
    (bytes(MOST_BYTES + 1), "photo", r"a<b>\.png: more than 16 MB"),
    (file_of(Image.new("1", (8192, 8192))), "photo", r"a<b>\.png \(8192x8192: more than 17 million pixels"),
    (file_of(Image.new("L", (8, 8), 200)), "label", r"a<b>\.png: has the label id 200"),
    (file_of(Image.new("L", (8, 8)), "JPEG"), "instance", r"a<b>\.png: JPEG"),
    (file_of(Image.new("L", (8, 8)), "GIF"), "photo", "not an image"),
    (b"", "../photo", r"no upload is called"),
])
def test_absurd_uploads(editor, content, kind, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=expected) as caught:
        take_upload(content, "/etc/a<b>.png", kind, editor.synthesizer._sample_reader())
    assert str(tmp_path) not in str(caught.value) and not list(tmp_path.iterdir())


def answer(path: str = "/gradio_api/queue/join", headers=(), pieces=()) -> tuple[int, int]:
    """Status of a server behind the limits, and the bytes that it got."""
    waiting, sent, got = list(pieces), [], []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            got.append(len(message["body"]))
        await send({"type": "http.response.start", "status": 200})

    async def receive():
        return {"type": "http.request", "body": waiting.pop()} if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": list(headers)}
    asyncio.run(LimitedRequests(app)(scope, receive, send))
    return sent[0]["status"], sum(got)


def test_limits_of_requests():
    assert answer(pieces=[bytes(10), bytes(5)]) == (200, 15)
    assert answer(headers=[(b"content-length", str(MOST_BODY + 1).encode())]) == (413, 0)
    assert answer(headers=[(b"content-length", b"-1")]) == (413, 0)
    assert answer("/gradio_api/upload", pieces=[bytes(10)]) == (403, 0)
    assert answer(pieces=[bytes(MOST_BODY // 4)] * 8)[1] <= MOST_BODY


def test_hand_made_requests(editor):
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing.page import Page

    page = Page(editor, [])
    start = page._load()[0]
    stroke = {"act": "paint", "kind": 1, "radius": 4, "points": [[1, 1]], "fresh": True}
    lock = {"act": "lock", "instance": "x"}
    for wrong in ({}, {"act": "remove"}, {"act": "resample"}, lock, {**lock, "instance": []}, {**stroke, "points": 7},
                  {**stroke, "points": [[1]]}, {**stroke, "radius": None}, [], None):
        with pytest.warns(UserWarning, match="no request of this page"):
            assert page._act(start, SimpleNamespace(_data=wrong))[0] is start
    for wrong in ({**stroke, "radius": float("nan")}, {**stroke, "kind": 99}, {"act": "resample", "instance": 7}):
        with pytest.warns(UserWarning, match="no"):
            assert page._act(start, SimpleNamespace(_data=wrong))[0] is start
    upload = {"kind": "label", "name": "x", "data": "no base64!"}
    with pytest.warns(UserWarning, match="no request"):
        assert page._upload(start, SimpleNamespace(_data=upload))[0] is start
    with pytest.warns(UserWarning, match="no request"):
        page._slide(editor.blend, True)(start, float("nan"))


# ---- the command ----


def test_layouts_that_ship_are_those_that_are_drawn():
    folder = ROOT / "checkpoints" / "ccp" / "examples"
    assert {path.stem for path in (folder / "val_label").iterdir()} == {person.__name__ for person in PEOPLE}
    for person in PEOPLE:
        label = person().label
        assert np.array_equal(np.asarray(Image.open(folder / "val_label" / f"{person.__name__}.png")), label)
        assert {"skin", "hair"} < {CLASSES[k] for k in np.unique(label)} and 0.1 < (label > 0).mean() < 0.5
    card = re.search(r"Class ids: (.*?)\.\n", (ROOT / "checkpoints" / "ccp" / "README.md").read_text(), re.DOTALL)[1]
    assert [name.split(maxsplit=1)[1] for name in " ".join(card.split()).split(", ")] == list(CLASSES)


@pytest.mark.parametrize(("args", "expected"), [
    (["--dataroot", "nowhere"], "nowhere"),
    (["--port", 99999], "--port"),
    (["--host", "192.0.2.1"], "--host 192.0.2.1"),
    (["--norm_mode", "spade"], "--norm_mode spade"),
])
def test_wrong_options(run, args, expected):
    process = run("demo.py", *args)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1 and expected in process.stderr


def test_without_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "editing.page", raising=False)
    with pytest.raises(UserError, match=r"gradio: pip install -r requirements-demo\.txt"):
        serve(DemoOptions().parse([]))


def test_choose_threads(editor):
    before = torch.get_num_threads()
    try:
        assert choose_threads(editor, editor.blank())[0] == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


# ---- in a browser ----


@pytest.fixture(scope="module")
def address():
    """The demo of the model that ships, as everybody starts it."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "demo.py", "--port", str(port), "--seed", "0"], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, env={**os.environ, "GRADIO_SHARE": "True"})
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"open (http://127\.0\.0\.1:\d+/)", line):
            break
    else:
        pytest.fail("".join(lines))
    yield found[1]
    process.terminate()
    assert process.wait(20) == 130


class Visitor:
    """A tab of a browser with the page."""

    def __init__(self, browser, address: str):
        from selenium.webdriver.common.by import By
        self.browser, self.by = browser, By.CSS_SELECTOR
        browser.get(address)
        self.wait(lambda: self.count())
        self.label = self.pixels(".label-pane img")

    def wait(self, condition, seconds: float = 30):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "the page did not answer"
            time.sleep(0.02)
        return found

    def count(self) -> int:
        return int(self.browser.execute_script("return +(document.querySelector('.stage')?.dataset.count || 0)"))

    def find(self, selector: str, text: str = ""):
        return next(found for found in self.browser.find_elements(self.by, selector) if text in found.text)

    def answered(self, action) -> float:
        """Seconds until what ``action`` asks for is shown."""
        before, start = self.count(), time.monotonic()
        action()
        self.wait(lambda: self.count() > before)
        return time.monotonic() - start

    def pixels(self, selector: str) -> np.ndarray:
        """What an image on the page shows."""
        source = self.wait(lambda: self.find(selector).get_attribute("src"))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB")).astype(int)

    def picture(self) -> np.ndarray:
        return self.pixels(".picture-pane img")

    def color(self, name: str) -> np.ndarray:
        """Of a class: [H, W] bool."""
        style = self.find(".chip", name).find_element(self.by, ".swatch").value_of_css_property("background-color")
        return (self.label == [int(part) for part in re.findall(r"\d+", style)[:3]]).all(2)

    def point_at(self, mask: np.ndarray):
        """Move the mouse over the middle of the mask's largest row."""
        from selenium.webdriver import ActionChains
        row = mask.sum(1).argmax()
        column = int(np.median(np.flatnonzero(mask[row])))
        pane, (height, width) = self.find(".picture-pane canvas"), mask.shape
        x, y = ((at + 0.5) / side - 0.5 for at, side in ((column, width), (row, height)))
        return ActionChains(self.browser).move_to_element_with_offset(
            pane, round(x * pane.size["width"]), round(y * pane.size["height"]))

    def slide(self, name: str, value: float) -> None:
        self.browser.execute_script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', "
                                    "{ bubbles: true }))", self.find(f"#{name} input[type=range]"), value)


def test_page(address, tmp_path):
    Image.new("1", (8192, 8192)).save(tmp_path / "a<b>.png")
    ids = ROOT / "checkpoints" / "ccp" / "examples" / "val_label" / "suit.png"
    with chromium(1200, 1100) as browser:
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        page = Visitor(browser, address)
        start, skirt = page.picture(), page.color("skirt")

        # a click changes what was clicked, and little else
        page.point_at(skirt).perform()
        page.wait(lambda: page.find(".hint").text == "skirt")
        assert page.answered(page.point_at(skirt).click().perform) < 5
        after = page.picture()
        changed = np.abs(after - start).mean(2)
        assert changed[skirt].mean() > 5 * changed[~skirt].mean() > 0
        page.slide("blend", 0)
        page.wait(lambda: np.array_equal(page.picture(), start))
        page.slide("blend", 1)
        page.wait(lambda: np.array_equal(page.picture(), after))

        # a lock holds; undo goes back
        page.find("[data-tool=lock]").click()
        page.answered(page.point_at(skirt).click().perform)
        assert page.find(".hint").text == "skirt, locked" and np.array_equal(page.picture(), after)
        page.answered(page.find("#sample").click)
        changed = np.abs(page.picture() - after).mean(2)
        assert changed[page.color("background")].mean() > 2 * changed[skirt].mean()
        page.answered(page.find(".chip", "skirt").find_element(page.by, ".style").click)
        assert "locked" in page.wait(lambda: page.find(".toast-body").text)
        page.answered(page.find("#undo").click)
        assert np.array_equal(page.picture(), after)

        # a stroke is painted
        page.find("[data-tool=paint]").click()
        page.answered(lambda: page.point_at(skirt).click_and_hold().move_by_offset(0, 30).release().perform())
        assert not np.array_equal(page.pixels(".label-pane img"), page.label)

        # another visitor sees nothing of it
        first, steps = browser.current_window_handle, len(browser.find_elements(page.by, "#history button"))
        browser.switch_to.new_window("tab")
        other = Visitor(browser, address)
        other.answered(other.find("#sample").click)
        assert np.array_equal(other.label, page.label) and len(browser.find_elements(page.by, "#history button")) == 2
        browser.close()
        browser.switch_to.window(first)
        page.answered(page.find(".chip", "blazer").find_element(page.by, ".lock").click)
        assert steps == len(browser.find_elements(page.by, "#history button")) == 3

        # an absurd upload gets its message, a good one is used
        page.find("#own button").click()
        drop = ".drop[data-kind=label]"
        page.wait(lambda: page.find(drop).is_displayed())
        page.find(f"{drop} input").send_keys(str(tmp_path / "a<b>.png"))
        page.wait(lambda: "a<b>.png (8192x8192: more than 17 million pixels)" in page.find(drop).text)
        page.find(f"{drop} input").send_keys(str(ids))
        page.wait(lambda: "suit.png, 128×256" in page.find(drop).text)
        page.answered(page.find("#use-layout").click)
        assert page.find(".chip", "suit") and not np.array_equal(page.pixels(".label-pane img"), page.label)

        # what is downloaded is what is seen
        page.find("#download").click()
        path = tmp_path / "inade.zip"
        page.wait(lambda: zipfile.is_zipfile(path))  # not before it is whole
        with zipfile.ZipFile(path) as archive:
            assert np.array_equal(np.asarray(Image.open(archive.open("picture.png"))), page.picture())
            assert np.array_equal(np.asarray(Image.open(archive.open("label.png"))), np.asarray(Image.open(ids)))

        # nothing comes from elsewhere, and it fits a phone, however long the history is
        for _ in range(6):
            page.answered(lambda: browser.execute_script("document.querySelector('#sample').click()"))
        names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert names and all(name.startswith((address, "data:", "blob:")) for name in names)
        resize(browser, 390)
        page.wait(lambda: browser.execute_script("return document.documentElement.scrollWidth") == 390)
