"""Web pages: what they contain, and how they behave in a browser."""
import base64
import io
import json
import re
import signal
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import screenshots
from data import class_colors, class_names, create_dataset
from tests.browser import chromium, resize
from tests.data_helpers import build, options
from tests.forked import Command
from tests.test_styles import pictures
from tests.worlds import (
    CLASSES,
    NETWORK,
    SIZE,
    TRAIN,
    assert_equal_networks,
    build_model,
    draw_world,
    networks,
    succeed,
)
from trainers.followed import Followed
from trainers.visualizer import duration, thinned
from util.html import Outlines, Picture, PicturePage
from util.palette import label_palette

NASTY = "a \"b\" 'c' #1 50% ?x=1&amp; ${pwned=1}{{x}}`\\u1 <script>pwned=1<"  # name of a file, less its suffix
TAGS = "</script><script>pwned=1</script><img src=x onerror='pwned=1'>"  # for texts


# ---- what pages contain ----

@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 30)])
@pytest.mark.parametrize("instances", [1, 4, 700])
def test_regions_are_the_distinct_pairs(shape, instances):
    random = np.random.default_rng(0)
    label, instance = random.integers(0, 9, shape).astype(np.uint8), random.integers(0, instances, shape)
    regions = Outlines.of(label, instance.astype(np.int32))
    assert Outlines.parse(regions.text()) == regions
    pairs = {(int(a), int(b)) for a, b in zip(label.flat, instance.flat, strict=True)}
    assert regions.members == sorted(pairs) and (regions.height, regions.width) == shape
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(regions.numbers)), "<u4").reshape(shape)
    members = np.array(regions.members)[numbers]
    assert np.array_equal(members[..., 0], label) and np.array_equal(members[..., 1], instance)
    assert all(map(np.array_equal, regions.maps(), (label, instance)))


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "5", "[1, 2, [[3]], 4]", "[" * 10**5, "[1, 2, [[1, null]], 4]"])
def test_a_comment_of_another_kind_is_no_regions(text):
    assert Outlines.parse(text) is None


def test_many_rows_are_spread_over_files(tmp_path):
    def save(count):
        page = PicturePage("rows", 100)
        page.add_text("only at the beginning")
        for n in range(count):
            page.add_row(f"row {n}", [Picture(f"{n}.png", "picture")])
        page.save(str(tmp_path / "my page.html"))
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    (tmp_path / "my page_notes.html").write_text("somebody's")
    files = save(101)
    assert files.keys() == {"my page.html", "my page_2.html", "my page_3.html", "my page_notes.html"}
    found = [re.findall(r"<h2>(row \d+)</h2>", files[name]) for name in sorted(files)[:3]]
    assert [row for rows in found for row in rows] == [f"row {n}" for n in range(101)]
    assert [len(rows) for rows in found] == [50, 50, 1]
    assert [text.count("only at the beginning") for text in files.values()].count(1) == 1
    assert 'href="my%20page_2.html"' in files["my page.html"]
    assert 'href="my%20page_2.html"' in files["my page_3.html"] and "my%20page_4" not in str(files)
    assert "1: row 0 … row 49" in files["my page_3.html"]
    assert save(3).keys() == {"my page.html", "my page_notes.html"}  # what is left over would be stale
    assert "<nav" not in save(3)["my page.html"]


def test_legend_names_the_classes_that_rows_show(tmp_path):
    colors = np.arange(12, dtype=np.uint8).reshape(4, 3)
    page = PicturePage("legend", 100, {1: TAGS}, colors)
    page.add_row("row", [Picture("0.png", "layout")], Outlines.of(np.array([[1, 3]]), np.zeros((1, 2), int)))
    page.save(str(tmp_path / "index.html"))
    text = (tmp_path / "index.html").read_text()
    legend = re.search("<ul.*?</ul>", text)[0]
    assert re.findall(r'#(\w{6})[^>]*></i>([^<]+)</li>', legend) == [
        ("030405", TAGS.replace("<", "&lt;").replace(">", "&gt;")), ("090a0b", "class 3")]
    assert json.loads(re.search('data-members="([^"]+)"', text)[1]) == [[1, 0], [3, 0]]


def test_layouts_have_the_colours_of_the_data_set(tmp_path):
    opt = options("custom", tmp_path, "test", label_nc=4)
    assert np.array_equal(class_colors(opt), label_palette(4)) and not class_names(opt)
    (tmp_path / "classes.txt").write_text("1 2 3 0 sky\n4 5 6 2 tree\n7 8 9 2 tree\n9 9 9 255 void\n8 8 8 77 other\n")
    table = tmp_path / "table.txt"
    table.write_text("20 30 40 2 bush\n")
    expected = label_palette(5).copy()
    expected[[0, 2]] = (1, 2, 3), (4, 5, 6)  # the first of several
    assert np.array_equal(class_colors(opt), expected[:4])
    opt = opt.replace(label_colors=str(table), contain_dontcare_label=True)
    expected[[2, 4]] = (20, 30, 40), (9, 9, 9)
    assert np.array_equal(class_colors(opt), expected) and class_names(opt)[2] == "bush"


@pytest.mark.parametrize(("count", "each"), [(1, 1), (7, 1), (200, 1), (333, 2), (5000, 25)])
def test_long_curves_are_means_of_what_came_together(count, each):
    values = np.random.default_rng(0).random((count, 2))
    points = np.array(thinned([tuple(value) for value in values.tolist()]))
    assert len(points) == -(-count // each) <= 200
    assert points == pytest.approx(np.array([values[start:start + each].mean(0) for start in range(0, count, each)]))


def test_durations():
    assert [duration(seconds) for seconds in (0, 29, 100, 3600, 3661, 90000, 9 * 86400)] == [
        "a minute", "a minute", "2 min", "1 h", "1 h 1 min", "1 d 1 h", "9 d"]


@pytest.mark.parametrize("mode, known", [
    ("ade20k", {0: "other", 13: "person", 21: "car", 150: "flag"}),
    ("coco", {0: "person", 90: "hair brush", 91: "banner", 181: "wood", 182: "don't care"}),
])
def test_classes_have_names(tmp_path, mode, known):
    opt = options(mode, tmp_path, "test")
    names = class_names(opt)
    assert names | known == names and sorted(names) == list(range(opt.num_classes))
    assert len(set(names.values())) == len(names)


# ---- in a browser ----

def at(browser, element, x, y):
    """Point at a place in an element: x and y from 0 to 1."""
    from selenium.webdriver import ActionChains

    width, height = element.size["width"], element.size["height"]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(browser).move_to_element_with_offset(
        element, round((x - 0.5) * width), round((y - 0.5) * height)).perform()


def wait(browser, script, *args):
    """What a script returns, as soon as that is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20, 0.05).until(lambda _: browser.execute_script(f"return {script}", *args))


def select(browser, selector):
    return browser.find_elements("css selector", selector)


OUTLINES = """[...arguments[0].querySelectorAll('.outline')].map((drawing) => {
    const {x, y, width, height} = drawing.lastChild.getBBox();
    return [x, y, x + width, y + height];
})"""


def test_results_page_in_a_browser(tmp_path, run):
    world = draw_world(tmp_path / "world")
    for kind in ("label", "inst", "img"):
        (world / f"val_{kind}" / "p0.png").rename(world / f"val_{kind}" / f"{NASTY}.png")
    (world / "classes.txt").write_text("".join(f"{n} 9 9 {n} {TAGS} {n}\n" for n in range(CLASSES)))
    build_model("--checkpoints_dir", tmp_path, "--name", "exp").save("latest")
    args = [*NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path]
    with chromium() as browser:
        for _ in range(2):  # of a run that went on, the page is the same
            succeed(run("test.py", *args, "--results_dir", tmp_path, "--num_samples", 2, "--interpolate", 3))
        browser.get((tmp_path / "exp" / "test_latest" / "index.html").as_uri())
        rows = select(browser, ".row")
        row = next(row for row in rows if row.find_element("css selector", "h2").text == NASTY)
        pictures = row.find_elements("css selector", "figure:not(.wide) img")
        captions = [caption.text for caption in row.find_elements("css selector", "figcaption")]
        assert captions == ["layout", "sample 1", "sample 2", "real photo", "interpolation", "animation"]
        assert len(rows) == 3 and len(pictures) == 5
        for picture in select(browser, ".row img"):
            at(browser, picture, 0.5, 0.5)
            width = wait(browser, "arguments[0].complete && arguments[0].naturalWidth", picture)
            assert width == SIZE if picture in select(browser, "figure:not(.wide) img") else width > SIZE

        # a block of the second row and third column, pointed at in the last picture
        instance = np.asarray(Image.open(world / "val_inst" / f"{NASTY}.png")).astype(int)
        chosen = instance[12, 20]
        at(browser, pictures[-1], 20.5 / SIZE, 12.5 / SIZE)
        y, x = np.nonzero(instance == chosen)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert wait(browser, OUTLINES, row) == [box] * 5
        tip = select(browser, ".tip")[0].text
        assert tip == f"{TAGS} {chosen % CLASSES} · instance {chosen}"
        at(browser, select(browser, "h1")[0], 0.5, 0.5)
        assert wait(browser, "document.querySelector('.tip').hidden")
        assert browser.execute_script(f"return {OUTLINES}", row) == [[0, 0, 0, 0]] * 5

        # a class: all of its pixels, in all rows
        entry = select(browser, ".legend li")[1]
        label = int(entry.get_attribute("data-class"))
        at(browser, entry, 0.5, 0.5)
        y, x = np.nonzero(instance % CLASSES == label)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        wait(browser, "document.querySelectorAll('.outline').length === 15")
        assert browser.execute_script(f"return {OUTLINES}", row) == [box] * 5

        # at full size, and on to the next
        pictures[0].click()
        viewed = select(browser, ".viewer img")[0]
        wait(browser, "arguments[0].closest('dialog').open && arguments[0].width === 4 * arguments[0].naturalWidth",
             viewed)
        caption = ".viewer figcaption"
        assert select(browser, caption)[0].text == f"{NASTY} · layout · {SIZE}×{SIZE}"
        at(browser, viewed, 20.5 / SIZE, 12.5 / SIZE)
        assert wait(browser, "document.querySelector('.viewer .outline path')?.getAttribute('d')")
        select(browser, ".viewer .next")[0].click()
        wait(browser, "arguments[0].src === arguments[1]", viewed, pictures[1].get_attribute("src"))
        select(browser, ".viewer .close")[0].click()
        wait(browser, "!document.querySelector('.viewer').open")

        assert browser.execute_script("return window.pwned") is None


def test_results_say_what_they_were_made_with(tmp_path, run):
    """The heading, and each reference beside the samples that take styles from it."""
    world = draw_world(tmp_path / "world")
    build_model("--checkpoints_dir", tmp_path, "--name", "exp", "--use_vae").save("latest")
    args = ["test.py", *NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--use_vae",
            "--num_samples", 2]

    def made(name, *more):
        process = succeed(run(*args, "--results_dir", tmp_path / name, *more))
        folder = tmp_path / name / "exp" / "test_latest"
        page = (folder / "index.html").read_text()
        rows = re.findall(r'<section class="row".*?</section>', page)
        found = [[(re.search('src="([^"]+)"', tag)[1], re.search('alt="([^"]+)"', tag)[1])
                  for tag in re.findall("<img [^>]+>", row)] for row in rows]
        assert all((folder / path).exists() for row in found for path, _ in row)
        return process, folder, re.findall("<p>(.*?)</p>", page)[:2], found

    _, folder, texts, rows = made("own")
    assert texts == [
        f"Networks: latest, of {tmp_path}/exp. Layouts: 3, of {world}, test split.",
        "Samples of each: 2; seed 3. Styles: of each layout's own photo (--styles encoder)."]
    for n, row in enumerate(rows):
        assert [caption for _, caption in row] == ["layout", "sample 1", "sample 2", "real photo"]
        photo, shown = (np.asarray(Image.open(path)).astype(int) for path in (world / "val_img" / f"p{n}.png",
                                                                              folder / row[-1][0]))
        assert np.abs(photo - shown).max() <= 1

    instances = [set(np.unique(Image.open(world / "val_inst" / f"p{n}.png")).tolist()) for n in range(3)]
    number = min(set.union(*instances) - set.intersection(*instances))  # not in all of the layouts
    process, folder, texts, rows = made("some", "--vary", f"instances:{number}")
    without = [number not in found for found in instances]
    assert f"none of these in {sum(without)} layout{'s' * (sum(without) > 1)} of 3;" in process.stdout
    assert re.search(rf"vary: instances:{number} +\[default: all\]$", process.stdout, re.MULTILINE)
    headings = re.findall("<h2>(.*?)</h2>", (folder / "index.html").read_text())
    for n, (row, alike) in enumerate(zip(rows, without, strict=True)):
        samples = [path for path, caption in row if caption.startswith("sample")]
        assert len(samples) == (1 if alike else 2)
        assert headings[n] == f"p{n}" + f" (no instance {number} here: all samples are equal)" * alike
        first, second = ((folder / "images" / kind / f"p{n}.png").read_bytes()
                         for kind in ("synthesized_image", "synthesized_image_2"))
        assert (first == second) == alike  # both are written for every layout

    chosen = world / "val_img" / "p1.png"
    _, folder, texts, rows = made("one", "--reference", chosen, "--vary", "classes:1,2", "--truncation", 0.5)
    assert texts[1] == ("Samples of each: 2, which differ only in classes:1,2; seed 3. "
                        f"Styles: of --reference {chosen}; where an instance has no partner there, of the prior; "
                        "--truncation 0.5.")
    for row in rows:
        assert [caption for _, caption in row] == ["layout", "reference p1", "sample 1", "sample 2", "real photo"]
        shown = np.asarray(Image.open(folder / row[1][0])).astype(int)
        assert np.abs(np.asarray(Image.open(chosen)).astype(int) - shown).max() <= 1

    for n in range(3):  # of names of their own, so that each sample takes from the one that the seed chooses
        for kind in ("label", "inst", "img"):
            place = tmp_path / "others" / f"val_{kind}" / f"q{n}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((world / f"val_{kind}" / f"p{n}.png").read_bytes())
    _, folder, _, rows = made("many", "--reference", tmp_path / "others", "--save_styles")
    kinds = {tuple(caption.split()[0] for _, caption in row) for row in rows}
    assert kinds <= {("layout", "reference", "sample", "reference", "sample", "real"),
                     ("layout", "reference", "sample", "sample", "real")}
    assert len({path for row in rows for path, caption in row if caption.startswith("reference")}) > 1
    before = pictures(folder.parent.parent)
    table = tmp_path / "table.json"
    table.write_text(json.dumps({name: next(caption.split()[1] for _, caption in row if caption.startswith("reference"))
                                 for row, name in zip(rows, ("p0", "p1", "p2"), strict=True)}))
    made("table", "--reference", tmp_path / "others", "--reference_map", table)
    after = pictures(tmp_path / "table")  # with a table that says the same, the first samples are the same
    assert all(after[f"synthesized_image/p{n}.png"] == before[f"synthesized_image/p{n}.png"] for n in range(3))


def test_training_page_in_a_browser(tmp_path, run):
    """A slider moves pictures of the same layouts through the epochs; what is drawn for it changes no numbers."""
    world = draw_world(tmp_path / "world")
    args = ["train.py", *TRAIN, "--dataroot", world, "--checkpoints_dir", tmp_path, "--use_vae", "--niter", 3]
    succeed(run(*args, "--name", "exp", "--init_variance", 1, "--lr", 0.02, "--display_freq", 6,
                "--print_freq", 6))
    succeed(run(*args, "--name", "plain", "--init_variance", 1, "--lr", 0.02, "--no_html"))
    assert_equal_networks(networks(tmp_path / "exp"), networks(tmp_path / "plain"))
    folder = tmp_path / "exp" / "web"
    succeed(run("test.py", *NETWORK, "--dataroot", world, "--name", "exp", "--checkpoints_dir", tmp_path, "--seed", 0,
                "--phase", "train", "--results_dir", tmp_path))
    drawn = (tmp_path / "exp" / "train_latest" / "images" / "synthesized_image" / "p2.png").read_bytes()
    last = folder / "images" / "followed2_epoch003.png"
    assert np.array_equal(np.asarray(Image.open(last)), np.asarray(Image.open(io.BytesIO(drawn))))
    with chromium() as browser:
        browser.get((folder / "index.html").as_uri())
        moved = select(browser, "img[data-frames]")
        shown = [re.search(r"followed(\d+)_epoch(\d+)", picture.get_attribute("src")).groups() for picture in moved]
        assert shown == [("1", "003"), ("2", "003"), ("3", "003")]
        slider = select(browser, ".slider input")[0]
        for key, epoch in (("\ue012", 2), ("\ue012", 1), ("\ue012", 1), ("\ue014", 2)):  # left, left, left, right
            slider.send_keys(key)
            assert select(browser, ".slider output")[0].text == str(epoch)
            for number, picture in enumerate(moved, 1):
                name = f"followed{number}_epoch{epoch:03d}.png"
                assert picture.get_attribute("src").endswith(name)
                wait(browser, "arguments[0].complete && arguments[0].naturalWidth", picture)
                assert (folder / "images" / name).exists()
        headings = [heading.text for heading in select(browser, "main h2")]
        at_section = headings.index("The newest pictures of training")
        assert headings[at_section - 1] == "layout 3" and headings[at_section + 1] == "epoch 3, image 6"
        hints = {curve.find_element("css selector", "h2").text: curve.find_element("css selector", ".hint").text
                 for curve in select(browser, ".curve")}
        assert hints["D_real"] == "error of the discriminators on photos" and all(hints.values())
        moved[0].click()
        wait(browser, "arguments[0].src === arguments[1].src", select(browser, ".viewer img")[0], moved[0])
    epochs = [np.asarray(Image.open(folder / "images" / f"followed1_epoch{epoch:03d}.png")) for epoch in (1, 2, 3)]
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])


@pytest.mark.parametrize("epochs", [1, 7, 50, 51, 200, 1000])
def test_followed_layouts_are_drawn_some_fifty_times(tmp_path, epochs):
    build(tmp_path, "custom")
    opt = options("custom", tmp_path).replace(niter=epochs)
    followed = Followed(opt, create_dataset(opt))
    due = [epoch for epoch in range(1, epochs + 1) if followed.due(epoch)]
    assert due[0] == 1 and due[-1] == epochs and min(epochs, 25) <= len(due) <= 52
    assert max(np.diff(due), default=1) <= -(-epochs // 50)


def test_training_page_of_a_run_that_was_stopped(tmp_path, run):
    world = draw_world(tmp_path / "world")
    args = ["train.py", *TRAIN, "--dataroot", world, "--checkpoints_dir", tmp_path, "--name", "exp", "--niter", 100000]
    process = Command(*args)
    page = tmp_path / "exp" / "web" / "index.html"
    end = time.monotonic() + 60
    while not page.exists() and time.monotonic() < end:  # before there is anything to show
        time.sleep(0.1)
    assert "No pictures yet; the first come after about 6 images." in page.read_text()
    process.send_signal(signal.SIGTERM)
    assert "continue with --continue_train" in process.communicate(timeout=120)[1]
    epoch, image = map(int, (tmp_path / "exp" / "iter.txt").read_text().split())
    text = page.read_text()
    assert f"<p>Interrupted by SIGTERM in epoch {epoch} at image {image}; go on with --continue_train (" in text
    assert "images/s" not in text  # which would come with the time that is left
    process = run(*args[:-2], "--niter", 2, "--name", "broken", "--lr", 1e30)
    assert process.returncode == 2
    text = (tmp_path / "broken" / "web" / "index.html").read_text()
    assert re.search(r"<p>Stopped by an error in epoch \d at image \d+; go on with --continue_train \(", text)


def test_paging_laziness_and_sizes_in_a_browser(tmp_path):
    for name in "first", "last":
        Image.new("RGB", (64, 32)).save(tmp_path / f"{name}.png")
    page = PicturePage("many", 200)
    for n in range(120):
        pictures = [Picture("last.png" if n % 50 == 49 else "first.png", f"{k}") for k in range(3)]
        page.add_row(f"row {n}", pictures, Outlines.of(*np.zeros((2, 32, 64), int)))
    page.save(str(tmp_path / "index.html"))
    with chromium() as browser:
        browser.get((tmp_path / "index.html").as_uri())
        first, *_, last = select(browser, ".row img")
        wait(browser, "arguments[0].naturalWidth === 64", first)
        assert not browser.execute_script("return arguments[0].complete", last)  # not before it is near
        at(browser, last, 0.5, 0.5)
        wait(browser, "arguments[0].naturalWidth === 64", last)

        heading = "document.querySelector('.row h2').textContent"
        select(browser, "nav a[rel=next]")[0].click()
        wait(browser, f"{heading} === 'row 50'")
        browser.execute_script("const pages = document.querySelector('nav select'); pages.selectedIndex = 2;"
                               "pages.dispatchEvent(new Event('change'))")
        wait(browser, f"{heading} === 'row 100'")
        assert len(select(browser, ".row")) == 20 and not select(browser, "nav a[rel=next]")
        select(browser, "nav a[rel=prev]")[0].click()
        wait(browser, f"{heading} === 'row 50'")

        back = "return getComputedStyle(document.body).backgroundColor"
        shades = []
        for dark in (False, True):
            for width in (390, 1200):
                resize(browser, width, dark=dark)
                wait(browser, "innerWidth === arguments[0]", width)
                assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            shades.append(sum(map(int, re.findall(r"\d+", browser.execute_script(back)))))
        assert shades[0] > 600 and shades[1] < 100

        page = PicturePage("training", 200, refresh=1)
        for marked, scale, hint in ((True, 1, ""), (False, -1.11e-5, "a long hint " * 5)):
            page.add_curve("curve", "epoch", [(1, 5 * scale), (2, 3 * scale), (3, 4 * scale)], marked, hint)
        page.save(str(tmp_path / "training.html"))
        browser.get((tmp_path / "training.html").as_uri())
        browser.execute_script("window.before = true")
        wait(browser, "window.before === undefined && document.readyState === 'complete'")
        curves = select(browser, ".curve")
        assert len(curves) == 2 and curves[0].location["y"] == curves[1].location["y"]
        drawings = [drawing.size for drawing in select(browser, ".curve svg")]
        assert drawings[0]["height"] > 40  # and as large as the other, however long the numbers beside it are
        assert drawings[0] == pytest.approx(drawings[1], abs=1)


def test_a_picture_of_a_page(tmp_path, monkeypatch):
    """What docs/ shows: with what the pointer is on outlined in white."""
    for n in range(3):
        Image.new("RGB", (64, 64), (200, 40, 40)).save(tmp_path / f"{n}.png")
    page = PicturePage("squares", 128, {0: "outside", 1: "inside"}, label_palette(2))
    label = np.zeros((64, 64), np.uint8)
    label[16:48, 16:48] = 1
    page.add_row("row", [Picture(f"{n}.png", "picture") for n in range(3)], Outlines.of(label, label.astype(int)))
    page.save(str(tmp_path / "index.html"))
    monkeypatch.setattr("sys.argv", ["screenshots", f"{tmp_path}/index.html", f"{tmp_path}/page.png", "--width", "700",
                                     "--height", "500"])
    screenshots.main()
    pixels = np.asarray(Image.open(tmp_path / "page.png"))
    assert pixels.shape == (500, 700, 3)
    red = (np.abs(pixels.astype(int) - (200, 40, 40)) < 3).all(2)
    row = pixels[np.flatnonzero(red.any(1))[red.any(1).sum() // 2]].min(1)  # through the middle of the pictures
    assert (row[np.flatnonzero(red.any(0))[0]:np.flatnonzero(red.any(0))[-1]] == 255).sum() >= 6  # two sides in each
