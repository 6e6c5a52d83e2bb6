"""The demo as a studio: alternatives, references, fills, what a reload keeps, and two models in one page."""
import base64
import dataclasses
import io
import json
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.visitors import demo
from demo import find_models
from editing.saved import restored, saved
from editing.session import ALTERNATIVES, WHOLE, Canvas
from editing.uploads import read_styles, take_upload
from models.layout_styles import LayoutStyles
from models.pix2pix_model import Pix2PixModel
from options import TestOptions
from tests.browser import Visitor, chromium, resize
from tests.conftest import ROOT
from tests.test_demo import INSTANCE, LABEL, NETWORK, SIZE, change, changed_rows, file_of, given, photo
from util.errors import UserError

# ---- sessions ----


def test_alternatives(editor, session):
    locked = session.toggle_lock(1)
    offered = editor.offer(locked, 4)
    assert offered.step is session.step and len(offered.offers) == ALTERNATIVES
    for step in offered.offers:
        assert changed_rows(session, dataclasses.replace(session, steps=(step,))) == [4]
    assert len({step.picture.tobytes() for step in offered.offers}) == ALTERNATIVES
    chosen = editor.choose(offered, 2)
    assert len(chosen.steps) == 2 and changed_rows(session, chosen) == [4]
    assert np.abs(chosen.step.picture.astype(int) - offered.offers[2].picture).max() <= 1  # of a batch, and alone
    other = editor.choose(chosen, 5)  # takes its place
    assert len(other.steps) == 2 and torch.equal(given(other).noise, offered.offers[5].styles.truncated().noise)
    assert len(editor.choose(editor.resample(other, 0), 1).steps) == 4
    everything = editor.offer(session)
    assert changed_rows(session, editor.choose(everything, 0)) == [*range(9), WHOLE]
    assert not editor.paint(offered, 1, 4, [(9, 9)]).offers  # they are of another layout
    assert offered.bytes() > session.bytes() + 6 * session.step.picture.nbytes
    with pytest.raises(UserError, match="is kept"):
        editor.offer(locked, 1)
    for wrong in (-1, ALTERNATIVES):
        with pytest.raises(UserError, match="no such alternative"):
            editor.choose(offered, wrong)


def test_the_look_of_one_part_of_another_picture(editor, session):
    source = editor.truncate(editor.start(Canvas(LABEL, INSTANCE), "reference", seed=7), 0.5).step
    taken = editor.take_styles(session, source, (2, 7))
    assert changed_rows(session, taken) == [2] and taken.step.what == "class 2"
    assert torch.equal(given(taken).noise[0, 2], source.current().truncated().noise[0, 7])
    again = editor.start(Canvas(LABEL, INSTANCE), "reference", seed=7).step
    assert np.array_equal(again.picture, editor.start(Canvas(LABEL, INSTANCE), "", 7).step.picture)
    alike = editor.take_styles(session, source, (2, None))  # without a word, from what is of its class
    assert torch.equal(given(alike).noise[0, 2], source.current().truncated().noise[0, 2])
    assert changed_rows(session, alike) == [2]
    with pytest.raises(UserError, match="nothing to copy"):
        editor.take_styles(editor.paint(session, 4, 9, [(9, 9)]), editor.start(editor.blank()).step, (2, None))
    for wrong in ((2, 9), (9, 2), (WHOLE, 2), (2, WHOLE), (WHOLE, None)):
        with pytest.raises(UserError):
            editor.take_styles(session, source, wrong)
    with pytest.raises(UserError, match="is kept"):
        editor.take_styles(session.toggle_lock(2), source, (2, 7))
    with pytest.raises(UserError, match="another model"):
        editor.take_styles(session, dataclasses.replace(source, model="another"))


def test_looks_are_kept_for_another_layout(editor, session):
    turned = Canvas(LABEL.T.copy(), INSTANCE.T.copy())
    kept, drawn = (editor.open(session, turned, "turned", keep) for keep in (True, False))
    partners = editor._partners(turned, session.step.canvas)
    assert torch.equal(given(kept).z, given(session).z) and set(partners) == set(range(9))
    assert all(torch.equal(given(kept).noise[0, i], given(session).noise[0, j]) for i, j in partners.items())
    assert not torch.equal(given(drawn).z, given(session).z)
    assert all(LABEL[j == INSTANCE][0] == turned.label[i == turned.instance][0] for i, j in partners.items())


def test_only_inside(editor, session):
    own = editor.resample(session, 4)
    torch.manual_seed(3)
    inside = editor.resample(dataclasses.replace(session, only_inside=True), 4)
    torch.manual_seed(3)
    network = editor.resample(session, 4)
    mask = INSTANCE == 4
    far = np.ones_like(mask)
    far[16:48, 16:48] = False  # the instance and 5 pixels around it
    assert change(session, own)[far].any()  # what it is there for
    assert not change(session, inside)[far].any() and inside.step.under is session.step.picture
    middle = np.zeros_like(mask)
    middle[27:37, 27:37] = True
    assert not change(network, inside)[middle].any() and change(session, inside)[middle].any()
    assert change(network, inside)[mask & ~middle].any()  # the edge is soft
    assert np.array_equal(editor.blend(editor.blend(inside, 0.5), 1).step.picture, inside.step.picture)
    assert editor.resample(inside, WHOLE).step.under is None and editor.truncate(inside, 0.5).step.under is None
    painted = editor.paint(inside, 1, 4, [(8, 8)])
    assert not change(inside, painted)[20:, 20:].any() and change(inside, painted)[6:10, 6:10].any()


def test_fill(editor, session):
    filled = editor.fill(session, 1, (30.5, 30.5))
    assert np.array_equal(filled.step.canvas.instance, INSTANCE)  # 4 was free again
    assert changed_rows(session, filled) == [4]
    assert (filled.step.canvas.label == np.where(INSTANCE == 4, 1, LABEL)).all()
    two = editor.paint(session, 3, 3, [(0, 32), (63, 32)])  # cuts the rows in the middle into two
    part = editor.fill(two, 1, (30, 24)).step.canvas.instance
    assert (part[22:29, 30] == 10).all() and (part[36:42, 30] == 4).all()  # what is not connected stays
    assert editor.fill(session, int(LABEL[30, 30]), (30, 30), new_instance=False).step.canvas.instance[30, 30] == 4
    for wrong in ((5, (1, 1)), (-1, (1, 1)), (1, (-1, 1)), (1, (1, SIZE)), (1, (float("nan"), 1))):
        with pytest.raises(UserError, match="no place to fill"):
            editor.fill(session, *wrong)


def test_undo_goes_back_over_sliders(editor, session):
    clicked = editor.resample(session, 4)
    slid = editor.truncate(editor.truncate(clicked, 0.8), 0.4)
    assert len(slid.steps) == 3 and slid.undo().step is clicked.step  # one step for a movement
    back = editor.blend(editor.blend(slid, 0.7), 0.2)
    assert len(back.steps) == 4 and back.undo().step.truncation == 0.4 and back.undo().step.blend == 1


def test_what_a_reload_keeps(editor, session):
    painted = editor.blend(editor.resample(editor.paint(session.toggle_lock(3), 1, 4, [(9, 9)]), 4), 0.5)
    text = json.loads(json.dumps(saved(painted)))
    again = restored(editor, text)
    assert np.array_equal(again.step.picture, painted.step.picture) and again.locked == {3}
    assert np.array_equal(again.step.canvas.label, painted.step.canvas.label)
    half = (editor.truncate(one, 0.5).step.picture for one in (again, painted))
    assert np.abs(np.subtract(*map(np.int32, half))).max() <= 1
    blend = editor.take_styles(painted, editor.seen(photo(editor), "photo"))
    assert np.array_equal(restored(editor, saved(blend)).step.picture, blend.step.picture)
    # an instance of a high number must not make room for as many
    high = {**text, "instance": png(np.where(painted.step.canvas.instance == 9, 60000, painted.step.canvas.instance))}
    assert restored(editor, high).step.canvas.instance.max() == 9


def png(ids) -> str:
    return base64.b64encode(file_of(Image.fromarray(np.asarray(ids).astype(np.uint16)))).decode()


@pytest.mark.parametrize("change", [
    {"z": ""}, {"z": base64.b64encode(np.full(16, np.nan, "<f4").tobytes()).decode()},
    {"z": base64.b64encode(np.full(16, 1e9, "<f4").tobytes()).decode()}, {"noise": "AAAA"}, {"noise": 7},
    {"label": "no PNG"}, {"label": png(np.zeros((8, 8)))}, {"label": png(np.full((SIZE, SIZE), 99))},
    {"label": png(np.zeros((5000, 5000)))}, {"instance": png(np.arange(SIZE * SIZE).reshape(SIZE, SIZE))},
    {"spread": [1]}, {"spread": "x"}, {"locked": 3}, {"truncation": None},
])
def test_what_strangers_say_was_kept(editor, session, change):
    text = {**saved(session), **change}
    with pytest.raises((UserError, ValueError, TypeError)):  # which the page answers
        restored(editor, text)


def test_downloaded_looks_are_loaded_back(editor, session, tmp_path):
    with zipfile.ZipFile(io.BytesIO(editor.download(session))) as archive:
        content = archive.read("styles.npz")
    reader = editor.synthesizer._sample_reader()
    upload = take_upload(content, "C/styles.npz", "styles", reader)
    assert upload.name == "styles.npz" and upload.pixels.nbytes == len(content)
    looks = read_styles(upload.pixels.tobytes(), upload.name, reader)
    other = editor.resample(session)
    back = editor.use_styles(other, looks, "styles.npz")
    assert np.array_equal(back.step.picture, session.step.picture)
    kept = editor.use_styles(other.toggle_lock(4), looks, "styles.npz")
    assert changed_rows(other, kept) == [0, 1, 2, 3, 5, 6, 7, 8]
    for wrong in (b"", b"PK", content[:-50], file_of(Image.new("L", (8, 8)))):
        with pytest.raises(UserError, match=r"styles\.npz: these looks are not from this model; give the styles\.npz"):
            take_upload(wrong, "styles.npz", "styles", reader)
    large = LayoutStyles(looks.digest, looks.classes, looks.sizes, looks.z, looks.noise)
    large = dataclasses.replace(large, z=np.zeros((2**20, 16), np.float32))
    target = io.BytesIO()
    np.savez_compressed(target, **{name: value for name, value in vars(large).items() if value is not None})
    assert len(target.getvalue()) < 2**20  # but 64 MB when it is unpacked
    with pytest.raises(UserError, match="not from this model"):
        take_upload(target.getvalue(), "styles.npz", "styles", reader)


@pytest.mark.parametrize(("image", "kind", "words"), [
    (Image.new("RGB", (8, 8)), "label", "give a PNG with one channel, whose values are the ids of this model's"),
    (Image.new("L", (8, 8), 99), "label", "ids of this model's classes"),
])
def test_uploads_are_refused_in_words_of_the_page(editor, image, kind, words):
    with pytest.raises(UserError, match=words) as caught:
        take_upload(file_of(image), "a.png", kind, editor.synthesizer._sample_reader())
    assert "--" not in str(caught.value)


# ---- in a browser ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of checkpoints: the model of persons, where the demo expects that with which it begins; and a small one
    that nobody trained."""
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "faces").symlink_to(ROOT / "checkpoints" / "ccp")
    opt = TestOptions().parse([*NETWORK, "--use_vae", "--no_instance", f"--checkpoints_dir={folder}", "--name=small"])
    torch.manual_seed(0)
    model = Pix2PixModel(opt)
    examples = folder / "small" / "examples" / "val_label"
    examples.mkdir(parents=True)
    Image.fromarray(LABEL.astype(np.uint8)).save(examples / "squares.png")
    (examples.parent / "classes.txt").write_text("".join(f"{40 * k} 90 200 {k} kind{k}\n" for k in range(5)))
    model.save("latest")
    opt.save()
    (folder / "small" / "README.md").write_text("# Model card: squares\n")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "opt.txt").write_text("")
    spade = folder / "spade"
    (spade / "examples").mkdir(parents=True)
    (spade / "opt.txt").write_text("norm_mode: spade\t[default: inade]\n")
    (spade / "latest_net_G.pth").write_bytes(b"")
    return folder


def test_models_that_are_found(folder, capsys):
    at = f"--checkpoints_dir={folder}"
    assert [opt.name for opt in find_models([at])] == ["faces", "small"]
    assert "spade is left out: --norm_mode spade" in capsys.readouterr().out
    assert [opt.name for opt in find_models([at, "--name=small"])] == ["small"]
    assert [opt.name for opt in find_models([at, "--dataroot", "x"])] == ["faces"]


@pytest.fixture(scope="module")
def address(folder):
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    with demo("--checkpoints_dir", str(folder)) as (host, _):
        yield f"http://{host}/"


class Studio(Visitor):
    def tool(self, name: str) -> None:
        self.find(f"button[data-tool={name}]").click()

    def brush(self, name: str) -> None:
        self.find(f"[data-brush={name}]").click()

    def names(self, strip: str) -> list[str]:
        return self.browser.execute_script(  # at once: it may be shown anew meanwhile
            f"return [...document.querySelectorAll('#{strip} .strip button')].map(one => one.innerText)")

    def layout(self) -> np.ndarray:
        return self.pixels(".label-pane img")

    def focused(self) -> str:
        return self.browser.execute_script("const one = document.activeElement; return one.id || one.textContent")

    def key(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains
        ActionChains(self.browser).send_keys(*keys).perform()


def test_two_models(address):
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        assert page.names("layouts") == [*page.names("photos"), "blank"] and len(page.names("photos")) == 8
        assert [tab.text for tab in browser.find_elements(page.by, "#layouts .tabs button")] == [
            "people from garment layouts", "squares"]
        page.answered(lambda: page.click("#layouts .tabs button", "squares"))
        assert page.names("layouts") == ["squares", "blank"] and page.names("photos") == ["squares"]
        assert page.picture().shape == (SIZE, SIZE, 3) and page.find(".chip").text == "kind0"
        assert page.focused() == "squares"
        page.answered(lambda: page.click(".chip .style"))
        for _ in range(2):  # undo goes over the switch
            page.answered(lambda: page.click("#undo"))
        assert page.picture().shape == (256, 128, 3) and len(page.names("layouts")) == 9
        # styles of one model mean nothing to the other
        page.answered(lambda: page.click("#photos button"))
        page.answered(lambda: page.click("#layouts .tabs button", "squares"))
        assert page.find("#take-all").get_attribute("disabled")
        shown = page.picture()
        # an address opens with the model that it names
        link = browser.execute_script("return btoa(JSON.stringify(JSON.parse(sessionStorage.inade).saved))")
        browser.switch_to.new_window("tab")
        other = Studio(browser, f"{address}#{link}")
        other.wait(lambda: other.names("history") == ["saved"])
        assert np.array_equal(other.picture(), shown) and other.names("layouts") == ["squares", "blank"]


def test_alternatives_and_keyboard(address):
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        start = page.picture()
        page.tool("offer")
        page.answered(lambda: page.click(".chip", "skirt", inner=".style"))
        assert len(page.names("offers")) == ALTERNATIVES and np.array_equal(page.picture(), start)
        assert page.focused() == "skirt"
        page.answered(lambda: page.click("#offers .strip button"))
        first = page.picture()
        skirt = page.color("skirt")
        changed = np.abs(first - start).mean(2)
        assert changed[skirt].mean() > 5 * changed[~skirt].mean()
        page.key("\ue004")  # tab: to the next one
        page.answered(lambda: page.key("\ue007"))
        assert not np.array_equal(page.picture(), first) and len(page.names("history")) == 2
        assert page.focused() == "skirt 2"
        # a session without a mouse: focus stays where it was
        page.find("#undo").send_keys("")
        browser.execute_script("document.querySelector('#undo').focus()")
        page.answered(lambda: page.key("\ue007"))
        assert page.focused() == "undo" and np.array_equal(page.picture(), start)
        page.key("\ue004")
        page.answered(lambda: page.key("\ue007"))
        assert page.focused() == "redo" and not np.array_equal(page.picture(), start)
        browser.execute_script("document.querySelector('.chip .lock').focus()")
        page.answered(lambda: page.key(" "))
        assert page.find(".chip .lock").get_attribute("aria-pressed") == "true"
        assert browser.execute_script("return document.activeElement.matches('.chip .lock')")
        page.answered(lambda: page.click("#six"))
        assert page.names("offers")[0] == "all but the kept 1"


def test_six_looks_are_awaited(address):
    """In their places, until they come; or until it is said why not."""
    places = """const offers = document.querySelector("#offers"), button = document.querySelector(arguments[0]);
        button.click();
        return [offers.querySelectorAll(".place").length, offers.querySelector("h2").innerText,
                offers.querySelector("[aria-busy=true] h2[role=status]") !== null,
                document.querySelector("#stage .stage").classList.contains("busy")]"""
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        for part in ("#six", ".chip[data-name=skirt] .style"):
            found = []
            page.answered(lambda part=part, found=found: found.extend(browser.execute_script(places, part)))
            assert found == [ALTERNATIVES, "Six looks are being drawn …", True, True]
            page.wait(lambda: len(page.names("offers")) == ALTERNATIVES)
            assert page.find("#offers h2").text == "Click one to take it"
            assert not browser.find_elements(page.by, ".place, [aria-busy=true], .busy")
            page.tool("offer")
        page.answered(lambda: page.click(".chip[data-name=skirt] .lock"))
        page.answered(lambda: browser.execute_script(places, ".chip[data-name=skirt] .style"))
        page.wait(lambda: not browser.find_elements(page.by, ".place, [aria-busy=true], .busy"))
        assert "skirt is kept" in page.find(".notice").text and len(page.names("offers")) == ALTERNATIVES


def test_touch(address):
    """On a phone, a finger chooses a picture, and drags a part of it; or taps."""
    with chromium(1200, 1000) as browser:
        resize(browser, 390, 844)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})

        def touch(*points):
            for kind, at in [("touchStart", points[0]), *(("touchMove", at) for at in points[1:]), ("touchEnd", None)]:
                if len(points) > 1:  # slowly: a fling would take the next tap for its end
                    time.sleep(0.3)
                browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [
                    {"x": at[0], "y": at[1]}] if at else []})

        def place(selector, x=0.5, y=0.5):
            box = browser.execute_script("""arguments[0].scrollIntoView({ block: "nearest" });
                return arguments[0].getBoundingClientRect().toJSON()""", page.find(selector))
            return box["x"] + x * box["width"], box["y"] + y * box["height"]

        page = Studio(browser, address)
        start, skirt = page.picture(), page.color("skirt")
        row = skirt.sum(1).argmax()
        middle = ".picture-pane canvas", np.flatnonzero(skirt[row]).mean() / 128, row / 256
        touch(place("[data-tool=offer]"))
        page.answered(lambda: touch(place(*middle)))
        page.wait(lambda: len(page.names("offers")) == ALTERNATIVES)
        page.answered(lambda: touch(place("#photos button:nth-child(2)")))
        # what it was chosen for lies in view
        top = "return document.querySelector('.panes').getBoundingClientRect().top"
        page.wait(lambda: 0 <= browser.execute_script(top) < 500)
        hair, to = place(".label-pane canvas", y=0.08), place(*middle)
        page.answered(lambda: touch(hair, [(a + b) / 2 for a, b in zip(hair, to, strict=True)],
                                     to, (to[0] + 1, to[1])))
        changed = np.abs(page.picture() - start).mean(2)
        assert page.names("history")[-1] == "skirt" and changed[skirt].mean() > 5 * changed[~skirt].mean()
        # two taps do it, too
        page.answered(lambda: touch(place("#undo")))
        assert np.array_equal(page.picture(), start)
        touch(place(".label-pane canvas", y=0.08))
        page.wait(lambda: page.find(".hint").text == "Click the part that is to get this look.")
        page.answered(lambda: touch(place(*middle)))
        assert np.abs(page.picture() - start)[skirt].mean() > 5


def test_painting(address):
    from selenium.webdriver import ActionChains
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        start, skirt, background = page.layout(), page.color("skirt"), page.color("background")
        page.tool("paint")
        assert page.find(".kind input").get_attribute("value") != "background"
        offered = [one.get_attribute("value") for one in browser.find_elements(page.by, "#classes option")]
        assert len(offered) == 59 and "skirt" in offered[:9] and "cape" in offered[9:]
        # the search, the eyedropper, and a chip choose the class
        page.find(".kind input").send_keys("cape")
        page.key("\ue004")
        assert page.find(".kind input").get_attribute("value") == "cape"
        page.brush("fill")
        page.answered(page.point_at(skirt).click().perform)
        assert not (page.layout() == start)[skirt].all(1).any() and (page.layout() == start)[~skirt].all()
        assert page.find(".chip", "cape")
        page.brush("pick")
        page.point_at(background).click().perform()
        assert page.find(".kind input").get_attribute("value") == "background"
        page.click(".chip", "hair", inner=".style")
        assert page.find(".kind input").get_attribute("value") == "hair"
        # [ and ] change the size, which is seen; Escape gives a stroke up
        size = int(page.find(".size output").text.split()[0])
        page.click("[data-brush=paint]")
        page.key("]", "]", "[")
        assert int(page.find(".size output").text.split()[0]) == size + 2
        page.point_at(skirt).perform()
        assert browser.execute_script("""const canvas = document.querySelector(".pane canvas");
            return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)""")
        count = page.count()
        page.point_at(skirt).click_and_hold().move_by_offset(0, 20).perform()
        page.key("\ue00c")
        ActionChains(browser).release().perform()
        assert page.count() == count
        # the eraser paints background; undo goes back over all of it
        page.brush("erase")
        page.answered(page.point_at(skirt).click_and_hold().move_by_offset(0, 20).release().perform)
        erased = (page.layout() == start[0, 0]).all(2) & skirt
        assert 20 < erased.sum() < skirt.sum()
        page.slide("truncation", 0.5)
        page.wait(lambda: page.names("history")[-1] == "variety")
        while page.find("#undo").get_attribute("aria-disabled") == "false":
            page.answered(lambda: page.click("#undo"))
        assert np.array_equal(page.layout(), start)


def test_references(address):
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        start = page.picture()
        page.answered(lambda: page.click("#photos button", "coat"))
        source = page.layout()
        assert page.find("button[data-tool=take]").get_attribute("aria-pressed") == "true" and source.std() > 20
        page.answered(lambda: page.click("#undo") or page.click("#photos button", "dress"))
        page.wait(lambda: not np.array_equal(page.layout(), source))
        # two clicks: what to take, and who gets it
        pane = page.find(".label-pane canvas")
        from selenium.webdriver import ActionChains
        ActionChains(browser).move_to_element_with_offset(pane, 0, 0).click().perform()
        assert page.find(".hint").text in ("Click the part that is to get this look.", "dress")
        page.answered(lambda: page.click(".chip", "skirt", inner=".style"))
        changed = np.abs(page.picture() - start).mean(2)
        page.tool("resample")
        page.label = page.layout()
        skirt = page.color("skirt")
        assert changed[skirt].mean() > 5 * changed[~skirt].mean() and page.names("history")[-1] == "skirt"
        # also from the history
        page.tool("take")
        page.answered(lambda: page.click("#history button"))
        assert np.array_equal(page.layout(), start) and len(page.names("history")) == 2
        page.answered(lambda: page.click("#take-all"))
        page.wait(lambda: np.abs(page.picture() - start).max() <= 1)
        # a drag: from a part of the left picture to who gets its look
        page.answered(lambda: page.click("#photos button", "coat"))
        before, top = page.picture(), page.find(".label-pane canvas")
        browser.execute_script("scrollTo(0, 0)")
        hair = ActionChains(browser).move_to_element_with_offset(top, 0, -round(top.size["height"] * 0.42))
        page.answered(page.point_at(skirt, hair.click_and_hold()).release().perform)
        changed = np.abs(page.picture() - before).mean(2)
        assert changed[skirt].mean() > 5 * changed[~skirt].mean() and page.names("history")[-1] == "skirt"
        count = page.count()
        page.point_at(skirt).click_and_hold().move_to_element(top).release().perform()  # the other way: nothing
        assert page.count() == count
        # without a mouse: a part takes the look of what is of its class
        page.tool("take")
        browser.execute_script("document.querySelector('.chip[data-name=hair] .style').focus()")
        page.answered(lambda: page.key("\ue007"))
        assert page.names("history")[-1] == "hair" and page.focused() == "hair"


def test_zoom(address):
    from selenium.webdriver import ActionChains
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        pane, scale = page.find(".picture-pane"), "return document.querySelector('.zoom output').textContent"
        canvas = "return arguments[0].querySelector('canvas').getBoundingClientRect().toJSON()"
        page.click("[data-zoom='2']")
        page.click("[data-zoom='2']")
        box, outer = browser.execute_script(canvas, pane), pane.rect
        assert browser.execute_script(scale) == "400 %" and box["width"] == pytest.approx(4 * outer["width"], abs=1)
        middle = outer["x"] + outer["width"] / 2  # what was in the middle still is
        assert box["x"] + box["width"] / 2 == pytest.approx(middle, abs=1)
        # what a click means is what is seen there: the middle of the layout
        ids, start, count = page.label, page.picture(), page.count()
        in_middle = (ids == ids[128, 64]).all(2)
        page.answered(ActionChains(browser).move_to_element(pane).click().perform)
        changed = np.abs(page.picture() - start).mean(2)
        assert changed[in_middle].mean() > 3 * changed[~in_middle].mean()
        # a drag moves it, to its edge at most, and is no click
        count = page.count()
        ActionChains(browser).move_to_element(pane).click_and_hold().move_by_offset(100, 60).release().perform()
        moved = browser.execute_script(canvas, pane)
        assert moved["x"] == pytest.approx(box["x"] + 100, abs=2) and moved["y"] == pytest.approx(box["y"] + 60, abs=2)
        for _ in range(4):
            ActionChains(browser).move_to_element(pane).click_and_hold().move_by_offset(140, 300).release().perform()
        assert browser.execute_script(canvas, pane)["x"] == pytest.approx(outer["x"], abs=1) and page.count() == count
        for _ in range(3):
            page.click("[data-zoom='0.5']")
        assert browser.execute_script(scale) == "100 %"
        assert browser.execute_script(canvas, pane)["width"] == pytest.approx(outer["width"], abs=1)


def test_only_inside_and_kept_looks(address):
    with chromium(1200, 1000) as browser:
        page = Studio(browser, address)
        start, skirt = page.picture(), page.color("skirt")
        page.answered(lambda: page.click("#only-inside input"))
        page.answered(page.point_at(skirt).click().perform)
        changed = np.abs(page.picture() - start).max(2) > 0
        near = np.asarray(Image.fromarray(skirt).resize((8, 16), Image.Resampling.BOX).resize((128, 256)))
        assert changed[skirt].mean() > 0.8 and page.find(".composite").text == "composite"
        assert changed[:100].sum() == 0 and near.any()
        page.answered(lambda: page.click("#only-inside input"))
        page.answered(page.point_at(skirt).click().perform)
        assert not page.find(".picture-pane").find_element(page.by, ".composite").is_displayed()
        # what is kept for another layout: z, and with it the looks of classes
        z = "return JSON.parse(sessionStorage.inade).saved.z"
        page.click("#keep input")
        before = browser.execute_script(z)
        page.answered(lambda: page.click("#layouts button", "dress"))
        assert browser.execute_script(z) == before
        page.click("#keep input")
        page.answered(lambda: page.click("#layouts button", "suit"))
        assert browser.execute_script(z) != before


def test_nothing_is_lost(address, tmp_path):
    with chromium(1200, 1000) as browser:
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        page = Studio(browser, address)
        page.tool("paint")
        page.answered(page.point_at(page.color("skirt")).click_and_hold().move_by_offset(0, 30).release().perform)
        page.answered(lambda: page.click(".chip", "blazer", inner=".lock"))
        before, layout, names = page.picture(), page.layout(), page.names("history")
        # a reload: all of it, with the history
        browser.refresh()
        page.wait(lambda: page.count() and len(page.names("history")) == len(names) == 2)
        assert np.array_equal(page.picture(), before) and np.array_equal(page.layout(), layout)
        assert page.find(".chip", "blazer").find_element(page.by, ".lock").get_attribute("aria-pressed") == "true"
        # a link: whoever opens it sees the picture
        browser.execute_script("navigator.clipboard.writeText = () => Promise.reject()")
        page.click("#share")
        page.wait(lambda: "#" in browser.current_url)
        link = browser.current_url
        assert len(link) < 8000 and "address of this page" in page.find(".notice").text
        browser.switch_to.new_window("tab")
        other = Studio(browser, link)
        other.wait(lambda: other.names("history") == ["saved"])
        assert np.array_equal(other.picture(), before) and "#" not in browser.current_url
        # the picture alone, and the looks of a download, which come back
        other.find(".save").click()
        other.wait(lambda: (tmp_path / "picture.png").exists())
        assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.png")), before)
        other.find("#download").click()
        other.wait(lambda: zipfile.is_zipfile(tmp_path / "inade.zip"))
        with zipfile.ZipFile(tmp_path / "inade.zip") as archive:
            archive.extract("styles.npz", tmp_path)
        other.answered(other.find(".chip", "blazer").find_element(other.by, ".lock").click)
        other.answered(other.find("#sample").click)
        other.find("#own button").click()
        other.wait(lambda: [one for one in browser.find_elements(other.by, ".drop") if one.is_displayed()])
        for file, words in (("picture.png", "picture.png: these looks"), ("styles.npz", "styles.npz")):
            other.wait(lambda: browser.find_elements(other.by, ".drop[data-kind=styles] input"))
            other.find(".drop[data-kind=styles] input").send_keys(str(tmp_path / file))
            text = "return document.querySelector('.drop[data-kind=styles] span')?.textContent || ''"
            other.wait(lambda words=words, text=text: browser.execute_script(text).startswith(words))
        other.answered(other.find("#use-saved").click)
        assert np.array_equal(other.picture(), before)
        # a broken link says so, at the picture
        browser.switch_to.new_window("tab")
        broken = Studio(browser, f"{address}#nonsense")
        assert "not whole" in broken.wait(lambda: broken.find(".notice").text)
        assert broken.names("history") == ["sample"]


# of the palest text to what is behind it, as the Web Content Accessibility Guidelines define it
CONTRAST = r"""
const light = color => color.match(/[\d.]+/g).slice(0, 3).map(one => one / 255).map(
    one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4).reduce(
    (sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0.05);
const [text, page] = [".hint", "body"].map(one => getComputedStyle(document.querySelector(one)));
const both = [light(text.color), light(page.backgroundColor)];
return Math.max(...both) / Math.min(...both);
"""


def test_looks(address):
    """In the dark, and on a phone."""
    with chromium(1200, 1000, dark=True) as browser:
        page = Studio(browser, address)
        scheme = "return getComputedStyle(document.documentElement).colorScheme"
        page.wait(lambda: browser.execute_script(scheme) == "dark")
        overflows = """return [...document.querySelectorAll('#layouts .strip, .chips, .tools')].filter(
            one => one.scrollHeight > one.clientHeight + 1 && getComputedStyle(one).overflowY !== 'visible').length"""
        assert browser.execute_script(overflows) == 0
        for dark in (True, False):
            resize(browser, 1200, 1000, dark)
            page.wait(lambda dark=dark: browser.execute_script(scheme) == ("dark" if dark else "light"))
            page.wait(lambda: browser.execute_script(CONTRAST) >= 4.5)
        resize(browser, 390, 844)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "pointer", "value": "coarse"}]})
        page.wait(lambda: browser.execute_script("return document.documentElement.scrollWidth") == 390)
        lock = page.find(".chip .lock").size
        assert min(lock.values()) >= 40
        page.tool("paint")
        page.wait(lambda: page.find(".label-pane").size["width"] >= 380)  # as wide as the screen
