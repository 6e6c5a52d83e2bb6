"""The demo: what a visitor's session becomes, what the server takes, and the page in a browser."""
import asyncio
import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.client
import io
import json
import os
import platform
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.visitors import Visitor as Client
from benchmarks.visitors import demo, load
from demo import DemoOptions, choose_threads, serve
from editing.limits import (
    MOST_BODY,
    MOST_OF_ADDRESS,
    MOST_OF_VISITOR,
    PREDICT,
    SMALL,
    LimitedRequests,
    Refused,
    is_open,
)
from editing.session import MOST_INSTANCES, MOST_STEPS, WHOLE, Canvas, Editor
from editing.uploads import MOST_BYTES, layout_of, take_upload
from editing.visitors import Visitors
from models.layout_styles import LayoutStyles
from models.networks.styles import Styles
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options import TestOptions
from tests.browser import Visitor, chromium, resize
from tests.conftest import ROOT, free_port, run_command
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
    with pytest.raises(UserError, match="class 4 is kept"):
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
    with pytest.raises(UserError, match="fits no part"):
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
    with pytest.raises(UserError, match="256 parts"):
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
    (b"", "../photo", "no uploads of the kind"),
])
def test_absurd_uploads(editor, content, kind, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=expected) as caught:
        take_upload(content, "/etc/a<b>.png", kind, editor.synthesizer._sample_reader())
    assert str(tmp_path) not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["scale_width", "scale_shortside", "none"])
def test_thin_uploads(mode, monkeypatch):
    """Scaled, 468 bytes would take gigabytes: they are refused before."""
    reader = make_editor("--preprocess_mode", mode).synthesizer._sample_reader()
    monkeypatch.setattr(Image.Image, "resize", lambda *_: pytest.fail("resized"))
    for kind in ("photo", "label", "instance"):
        for size in ((1, 100_000), (100_000, 1)):
            with pytest.raises(UserError, match=r"thin\.png: would be"):
                take_upload(file_of(Image.new("L", size)), "thin.png", kind, reader)


def gate(app):
    """``ask(method, path, headers, pieces, client)``: status, body and headers of an application behind the limits."""
    limited = LimitedRequests(app, ["localhost"], ["demo.example"])

    async def ask(method="POST", path=PREDICT, headers=(), pieces=(b'{"session_hash": "a"}',), client="127.0.0.1",
                  gone=None):
        waiting, sent = list(pieces), []

        async def receive():
            if waiting:
                return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = {"host": "localhost:7860", "content-type": "application/json", **dict(headers)}
        await limited({"type": "http", "method": method, "path": path, "query_string": b"deep_link=x",
                       "client": (client, 9), "headers": [(name.encode(), value.encode()) for name, value in
                                                          headers.items()]}, receive, send)
        start = sent[0] if sent else {"status": None, "headers": []}
        return start["status"], b"".join(each.get("body", b"") for each in sent[1:]), dict(start["headers"])

    ask.limited = limited
    return ask


async def echo(scope, receive, send):
    """Answers with the length of what it got, and what it knows of the request."""
    if scope["type"] == "lifespan":
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})
        return
    body = (await receive())["body"] if scope["method"] == "POST" else b""
    said = f"{len(body)} {scope['query_string'].decode()} {[name.decode() for name, _ in scope['headers']]}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"<script>1</script>{said}".encode()})


def test_limits_of_requests(monkeypatch):
    ask = gate(echo)
    status, said, headers = asyncio.run(ask(pieces=[b'{"session_', b'hash": "a"}']))
    assert status == 200 and b">21 deep" in said and b"default-src 'self'" in headers[b"content-security-policy"]
    assert asyncio.run(ask(headers={"content-length": str(MOST_BODY + 1)}))[0] == 413
    assert asyncio.run(ask(headers={"content-length": "-1"}))[0] == 413
    # another website may send these without asking
    for kind in ("text/plain", "text/plain;application/json", "application/x-www-form-urlencoded", ""):
        assert asyncio.run(ask(headers={"content-type": kind}))[0] == 415
    assert asyncio.run(ask(headers={"content-type": "Application/JSON; charset=utf-8"}))[0] == 200
    assert asyncio.run(ask(pieces=[bytes(MOST_BODY // 4)] * 8))[0] == 413
    assert asyncio.run(ask(pieces=[b'{"session_hash": "a", "data": [', b"[]," * 10**5, b"1]}"]))[0] == 413
    for wrong in (b"", b"[]", b"{}", b'{"session_hash": 7}', b'{"session_hash": "a b"}', b"[" * 10**5, b"\xff"):
        assert asyncio.run(ask(pieces=[wrong]))[0] == 400
    assert not ask.limited._held
    monkeypatch.setattr("editing.limits.BODY_SECONDS", 0.05)
    gone = asyncio.Event()
    assert asyncio.run(ask(pieces=[], gone=gone))[0] == 408


def test_bodies_that_are_held():
    """Whatever the pieces that they come in; and one address leaves room for the uploads of others."""
    limited, pieces = gate(echo).limited, MOST_BODY // 2**14
    with contextlib.ExitStack() as holders:
        for address, most in (("10.0.0.1", 4), ("10.0.0.2", 4), ("10.0.0.3", 0)):
            for n in range(5):
                hold = holders.enter_context(limited._holding(address))
                with contextlib.nullcontext() if n < most else pytest.raises(Refused, match="too many uploads"):
                    for _ in range(pieces):
                        hold(2**14)
        holders.enter_context(limited._holding("10.0.0.3"))(SMALL)  # no upload
    assert not limited._held


def test_a_port_that_is_taken():
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing.server import listen

    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(
            UserError, match=r"--host 127\.0\.0\.1 --port \d+: cannot listen there \(Address already in use\)"):
        listen("127.0.0.1", other.getsockname()[1])


def test_names_of_the_server():
    """Another website can have a name of its own lead here, and make browsers send requests."""
    ask = gate(echo)

    def status(**headers):
        return asyncio.run(ask("GET", "/", {name.replace("_", "-"): value for name, value in headers.items()}))[0]

    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:7860", "10.0.0.5", "[::1]:7860", "demo.example"):
        assert status(host=host) == 200
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "[",
                 "1.2.3.4@evil.example"):
        assert status(host=host) == 403
    for origin in ("http://localhost:7860", "http://LOCALHOST:7860", "https://demo.example", "https://demo.example:8443"):
        assert status(origin=origin) == 200
    for origin in ("http://evil.example", "null", "", "http://6.6.6.6", "http://6.6.6.6:7860", "http://localhost:8888",
                   "http://localhost", "http://127.0.0.1:7860", "http://[::1]:7860", "http://[", "http://localhost:x",
                   "http://localhost:7860@evil.example"):
        assert status(origin=origin) == 403
    assert status(host="127.0.0.1", origin="http://127.0.0.1") == status(host="[::1]:80", origin="http://[::1]") == 200
    assert status(host="10.0.0.5", origin="https://10.0.0.5:443") == 200
    assert status(host="10.0.0.5", origin="https://10.0.0.5:80") == 403
    assert status(x_forwarded_host="evil.example") == 403
    _, said, headers = asyncio.run(ask("GET", "/", {"origin": "http://localhost:7860", "accept-encoding": "br"}))
    digest = base64.b64encode(hashlib.sha256(b"1").digest()).decode()
    assert b"['host', 'content-type']" in said and b"deep_link" not in said  # nothing gives leave to another website
    policy = headers[b"content-security-policy"].decode()
    assert f"'sha256-{digest}'" in policy and "unsafe-inline" not in policy.partition("style-src")[0]


def test_everybody_in_turn():
    """One at a time; who asks for much waits behind those who ask for little, and is refused at some point."""
    done, running = [], 0

    async def app(scope, receive, send):
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.001)
        done.append(json.loads((await receive())["body"])["session_hash"])
        running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def come():
        ask = gate(app)

        def one(visitor, client):
            return asyncio.ensure_future(ask(pieces=[json.dumps({"session_hash": visitor}).encode()], client=client))

        flood = [one("flooder", "10.0.0.1") for _ in range(20)] + [one(f"alias{n}", "10.0.0.1") for n in range(90)]
        await asyncio.sleep(0)
        others = [one(f"visitor{n}", f"10.0.1.{n}") for n in range(5)]
        statuses = [(await each)[0] for each in flood]
        assert [(await each)[0] for each in others] == [200] * 5
        assert statuses[:20].count(503) == 20 - 1 - MOST_OF_VISITOR and statuses.count(200) == 1 + MOST_OF_ADDRESS

    async def leave(ask):
        gone, first = asyncio.Event(), asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(ask(gone=gone))
        gone.set()
        await asyncio.gather(first, second)
        assert not ask.limited._turns._waiting and not ask.limited._turns._busy

    asyncio.run(come())
    order = [name for name in done if name.startswith("visitor")]
    assert order == [f"visitor{n}" for n in range(5)] and done.index("visitor4") < 12
    done.clear()
    asyncio.run(leave(gate(app)))
    assert len(done) == 1  # who left while waiting is not drawn for


def test_what_is_kept_of_visitors(editor, session, monkeypatch):
    monkeypatch.setattr("editing.visitors.MOST_VISITORS", 3)
    visitors, drawn = Visitors(), editor.resample(session, 4)
    visitors.keep("first", "10.0.0.1", drawn)
    for n in range(10):
        visitors.keep(f"flooder{n}", "10.0.0.2", drawn)
    assert visitors.get("first") is drawn and len(visitors) == 3
    assert visitors.was_dropped("flooder0") and not visitors.was_dropped("flooder0") and not visitors.was_dropped("new")
    visitors.keep("idle", "10.0.0.2", session)  # has drawn nothing
    assert visitors.get("idle") is None and visitors.get("flooder9") is drawn
    assert drawn.bytes() > sum(step.picture.nbytes for step in drawn.steps) and visitors.bytes() == 3 * drawn.bytes()
    monkeypatch.setattr("editing.visitors.MOST_BYTES", 2 * drawn.bytes())
    visitors.keep("first", "10.0.0.1", drawn)
    assert len(visitors) == 2 and visitors.get("first") is drawn
    monkeypatch.setattr("editing.visitors.IDLE", -1)
    assert visitors.get("first") is None and len(visitors) == 0 and visitors.was_dropped("first")


def make_page(editor, *args):
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing.page import Page, Studio
    return Page([Studio(editor.model, editor, *args)])


def test_hand_made_requests(editor, monkeypatch):
    page = make_page(editor, [])
    handler = functools.partial(page.changed, "me", "10.0.0.1")
    stroke = {"act": "paint", "kind": 1, "radius": 4, "points": [[1, 1]], "fresh": True}
    lock = {"act": "lock", "instance": "x"}
    start = page._start
    for wrong in ({}, {"act": "remove"}, {"act": "resample"}, lock, {**lock, "instance": []}, {**stroke, "points": 7},
                  {**stroke, "points": [[1]]}, {**stroke, "radius": None}, [], None):
        assert handler(lambda session, wrong=wrong: page._act(session, wrong)) == (
            start, "That was not a request of this page.")
    for wrong in ({**stroke, "radius": float("nan")}, {**stroke, "kind": 99}, {"act": "resample", "instance": 7}):
        found, words = handler(lambda session, wrong=wrong: page._act(session, wrong))
        assert found is start and "no" in words
    for wrong in ({"kind": "label", "name": "x", "data": "no base64!"}, {"kind": "../x", "name": "x", "data": ""},
                  {"kind": ["label"], "name": "x", "data": ""}):
        assert "not a request" in handler(lambda session, wrong=wrong: page._upload(session, wrong))[1]
    assert len(page.visitors) == 0  # looking, and what is refused, costs the server nothing
    assert handler(lambda session: session.undo()) == (start, "") and len(page.visitors) == 0

    def fail(error):
        def change(session):
            raise error
        return change

    for error in (MemoryError(), OSError(28, "No space left on device", "/tmp/x"), RuntimeError("defect")):
        found, words = handler(fail(error))
        assert found is start and "server could not do this" in words and "/tmp" not in words
    monkeypatch.setattr("editing.visitors.IDLE", -1)
    assert handler(editor.resample)[1] == "" and len(page.visitors) == 1
    again, words = handler(lambda session: session)
    assert again is start and "was dropped" in words and handler(lambda session: session) == (start, "")


def test_one_thread_draws(editor):
    """Each that does keeps memory of its own, and Gradio has forty."""
    page, seen = make_page(editor, []), []

    def change(session, said):
        seen.append(threading.get_ident())
        return session

    async def ask():
        answer = page._handler(change, lambda session: {}, [])
        await asyncio.gather(*(answer(SimpleNamespace(session_hash="a", client=None), None) for _ in range(9)))

    asyncio.run(ask())
    page.worker.shutdown()
    assert len(seen) == 9 and len(set(seen) - {threading.get_ident()}) == 1


THREADS = """
import ctypes, sys, threading
from util.memory import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
barrier = threading.Barrier(4)
def work():
    blocks = [bytearray(1000) for _ in range(99)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads] + [thread.join() for thread in threads]
ctypes.CDLL("libc.so.6").malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of glibc")
def test_threads_share_one_heap():
    def heaps(how):
        return len(re.findall(r"^Arena \d+:", run_command("-c", THREADS, how).stderr, re.MULTILINE))

    assert heaps("shared") == 1 < heaps("own")


def test_too_many_instances(editor, session):
    """Each has styles, in every step; of 65,536 they took 33 MB."""
    page = make_page(editor, [])
    many = np.arange(SIZE * SIZE, dtype=np.int32).reshape(SIZE, SIZE)
    with pytest.raises(UserError, match="many: has 4096 instances, but the page takes at most 256"):
        editor.open(session, Canvas(np.zeros_like(many), many), "many")
    data = base64.b64encode(file_of(Image.fromarray(many.astype(np.uint16)))).decode()
    refused = page._upload(session, {"kind": "instance", "name": "many.png", "data": data})
    assert "many.png: has 4096 instances" in str(page._files(refused)) and not refused.uploads
    full = editor.start(Canvas(np.zeros_like(many), many % MOST_INSTANCES))
    shown = page._view(full)["stage"]["instances"]
    assert [one["name"] for one in shown[:2]] == ["class 0 #1", "class 0 #2"]


def test_routes_that_are_open(editor):
    """Whatever a newer Gradio adds is closed, unless it lies where the page's own files are: then this fails."""
    app = make_page(editor, []).app()
    found = set()

    def look(routes, prefix=""):
        for route in routes:
            path = prefix + getattr(route, "path", "").rstrip("/")
            inner = getattr(route, "app", None) or getattr(route, "original_router", None)
            look(getattr(inner, "routes", ()), path)
            for method in getattr(route, "methods", None) or ():
                example = re.sub(r"{\w+:path}", "a/b.js", path or "/").replace("{api_name}", "predict")
                found.add((method, path or "/", is_open(method, re.sub(r"{\w+}", "x", example))))

    look(app.routes)
    assert len(found) > 60 and {(method, path) for method, path, open_ in found if open_} == {
        ("GET", "/"), ("GET", "/theme.css"), ("GET", "/assets/{path:path}"), ("GET", "/static/{path:path}"),
        ("GET", "/favicon.ico"), ("GET", "/manifest.json"), ("POST", "/gradio_api/run/{api_name}")}
    for path in ("/gradio_api/run/x", "/gradio_api/run/predict/", "/gradio_api/upload", "/assets/../config", "/config"):
        assert not is_open("POST", path) and not is_open("GET", path)


# ---- the command ----


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
        serve([DemoOptions().parse([])])


def test_choose_threads(editor):
    before = torch.get_num_threads()
    try:
        assert choose_threads(editor, editor.blank())[0] == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


# ---- in a browser ----


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The demo of the models that ship: its host and port, and its process."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    temporary = tmp_path_factory.mktemp("temporary")
    with demo("--names", "demo.example", GRADIO_SHARE="True", TMPDIR=str(temporary)) as (host, process):
        yield host, process
        assert not list(temporary.iterdir())  # whatever visitors sent
    assert process.returncode == 128 + signal.SIGTERM


@pytest.fixture
def address(server):
    return f"http://{server[0]}/"


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGTERM, "start"), (signal.SIGHUP, "start"),
                                                (signal.SIGINT, "drawing")])
def test_signals(number, moment, tmp_path):
    """Nothing is left in the temporary folder; what is being drawn, or waits for it, holds up nothing."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    port = free_port()
    log, host = tmp_path / "log", "0.0.0.0" if moment == "drawing" else "localhost"
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, "demo.py", "--port", str(port), "--host", host], cwd=ROOT,
                                   stdout=file, stderr=file, env={**os.environ, "TMPDIR": str(tmp_path)},
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    end = time.monotonic() + 60
    while "open http" not in log.read_text() if moment == "drawing" else not list(tmp_path.glob("inade-demo-*")):
        assert time.monotonic() < end and process.poll() is None, log.read_text()
        time.sleep(0.02)
    if moment == "drawing":
        here, elsewhere = re.findall(rf"^open http://(.+):{port}/ in a browser", log.read_text(), re.MULTILINE)
        assert here == "127.0.0.1" and elsewhere not in (here, host)
        assert log.read_text().endswith("there is no password\n")
        visitor = Client(f"{elsewhere}:{port}", "a", "")

        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):
                visitor.do("six", "click")

        for _ in range(8):
            threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(5 if moment == "drawing" else 30) == 128 + number, log.read_text()
    said = log.read_text()
    assert f"interrupted by {number.name}" in said and "Traceback" not in said and "terminate" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_many_visitors(server):
    """And one who asks for more and more, and half a request on more connections than there may be."""
    host, process = server
    found = load(host, process.pid, visitors=4, clicks=24, flooders=1, idlers=560, seconds=300)
    assert found["statuses"].pop(200) == found["clicks"] == 24
    assert set(found["statuses"]) <= {"flooder 200", "flooder 503"}


def test_every_kind_of_upload(server):
    """All others are not found, and none leaves a file: the fixture looks."""
    client = Client(server[0], "uploader")
    part = (b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(2**20)
            + b"\r\n--x--\r\n")
    for path in ("upload", "process_recording", "component_server", "vibe-edit", "stream/x", "queue/join", "run/x"):
        with contextlib.suppress(ConnectionError):  # closed before all of it was sent
            assert client.request("POST", f"/gradio_api/{path}", part,
                                  **{"Content-Type": "multipart/form-data; boundary=x"})[0] == 404
    assert client.request("GET", "/gradio_api/deep_link?session_hash=uploader")[0] == 404
    assert client.request("GET", "/?deep_link=x")[0] == 200
    for host in ("evil.example", "localhost.evil.example"):
        assert client.request("GET", "/", Host=host)[0] == 403
    for origin, status in ((f"http://{server[0]}", 200), ("https://demo.example", 200), ("http://6.6.6.6", 403),
                           ("http://localhost:1", 403)):
        assert client.request("GET", "/", Origin=origin)[0] == status
    head = (f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 2000000\r\n\r\n").encode()
    with socket.create_connection(tuple(server[0].split(":")), timeout=30) as broken:
        broken.sendall(head + bytes(10**6))
    for name in ("photo", "label", "instance"):
        data = base64.b64encode(file_of(Image.new("L", (64, 32), 1))).decode()
        status, shown = client.do("drops", "take", {"kind": name, "name": "a.png", "data": data})
        assert status == 200 and "a.png, 64×32" in str(shown[0]) and not shown[1]["text"]
    status, shown = client.do("download", "click")
    assert status == 200 and shown[0]["name"] == "inade.zip" and base64.b64decode(shown[0]["data"])[:2] == b"PK"


def test_half_open_requests(monkeypatch):
    """Heads and bodies that do not come are waited for so long; they make room for others before that."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing import server

    for name in ("HEAD_SECONDS", "CLIENT_SECONDS"):
        monkeypatch.setattr(server, name, 600)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 20)
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(serving(LimitedRequests(echo, ["localhost"])))

        def half(text):
            one = stack.enter_context(socket.create_connection(tuple(host.split(":")), timeout=60))
            one.sendall(text)
            return one

        def is_held(one):
            return not select.select([one], [], [], 0)[0]  # nothing has come, not even the end

        def ends(one):
            with contextlib.suppress(ConnectionResetError):
                return one.recv(1) == b""
            return True

        def is_answered():
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request("GET", "/")
            return connection.getresponse().status == 200

        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
        heads, body = [half(b""), half(head)], half(head + b"Content-Length: 99\r\n\r\n12345")
        assert is_answered() and all(map(is_held, [*heads, body]))
        monkeypatch.setattr(server, "HEAD_SECONDS", 0)
        assert all(map(ends, heads)) and is_held(body)
        monkeypatch.setattr(server, "CLIENT_SECONDS", 0)
        assert ends(body)
        monkeypatch.setattr(server, "HEAD_SECONDS", 600)
        held = [half(head) for _ in range(100)]
        assert is_answered() and all(map(ends, held[:80])) and all(map(is_held, held[-15:]))


def test_logs_are_brief():
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing.server import LOG_BYTES, BriefLog

    stream = io.StringIO()
    log = BriefLog(stream)
    for _ in range(1000):
        print("x" * 999, file=log)
    assert LOG_BYTES < len(stream.getvalue()) < 1.1 * LOG_BYTES and "left out for up to 10 minutes" in stream.getvalue()


@contextlib.contextmanager
def serving(app):
    """Serve an application in this process; yield host and port."""
    from editing.server import Server, listen

    port = free_port()
    with listen("127.0.0.1", port) as listener:
        server = Server(app)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(20)


NASTY = "${window.pwned=1}`{{value}}\\u1<img src=x onerror='pwned=1'>\"&amp;"  # as a template, HTML, or in an attribute


def test_names_do_not_run(tmp_path):
    """Of layouts, classes, the model and uploads: they are shown as they are."""
    torch.manual_seed(0)
    opt = TestOptions().parse([*NETWORK, "--use_vae", "--name", NASTY.replace("/", "")])
    editor = Editor(Synthesizer(Pix2PixModel(opt)), dict.fromkeys(range(NUM_CLASSES), NASTY))
    pytest.importorskip("gradio", reason="needs Gradio: pip install -r requirements-demo.txt")
    from editing.page import Example

    example = Example(NASTY, photo(editor))
    file = tmp_path / NASTY.replace("/", "")
    file.with_name(file.name + ".png").write_bytes(file_of(Image.fromarray(LABEL.astype(np.uint8))))
    with serving(LimitedRequests(make_page(editor, [example]).app(), ["localhost"])) as host, chromium() as browser:
        page = Visitor(browser, f"http://{host}/?deep_link=${{pwned=1}}&view=javascript:pwned=1#${{pwned=1}}")
        assert page.find("#layouts .strip button").text == NASTY.replace("_", " ")
        assert page.find("#photos button").text == f"photo {NASTY}"
        page.answered(lambda: page.click(".chip .style"))
        page.answered(lambda: page.click("#photos button"))
        page.answered(lambda: page.click("#take-all"))
        names = [each.text for each in browser.find_elements(page.by, "#history button")]
        assert names == ["sample", NASTY, f"photo {NASTY}"]
        assert page.find(".chip").text.startswith(NASTY) and NASTY in browser.find_element(page.by, "h1 + p").text
        page.click("#own button")
        page.wait(lambda: page.find(".drop[data-kind=label]").is_displayed())
        page.find(".drop[data-kind=label] input").send_keys(str(file) + ".png")
        page.wait(lambda: f"{file.name}.png, 64×64" in page.find(".drop[data-kind=label]").text)
        page.answered(lambda: page.click("#use-layout"))
        page.click("[data-tool=lock]")
        page.answered(lambda: page.click(".chip .lock"))
        page.answered(lambda: page.click(".chip .style"))
        assert f"{NASTY} is kept" in page.wait(lambda: page.find(".notice").text)
        assert browser.execute_script("return window.pwned === undefined && !document.querySelector('img[src=x]')")
        assert browser.execute_script("""const tag = document.createElement("script");
            tag.textContent = "window.pwned = 2";
            document.body.append(tag);
            return window.pwned === undefined""")  # nor would one that got in
        assert all("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_page(address, tmp_path):
    Image.new("1", (8192, 8192)).save(tmp_path / "a<b>.png")
    ids = ROOT / "checkpoints" / "ccp" / "examples" / "val_label" / "suit.png"
    with chromium(1200, 1100) as browser:
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        page = Visitor(browser, address)

        # it begins with faces, whose parts have names in words
        assert page.picture().shape == (128, 128, 3)
        parts = [chip.text for chip in browser.find_elements(page.by, ".chip")]
        assert {"left eye", "lower lip", "clothes"} < set(parts) and "_" not in "".join(parts)
        page.answered(lambda: page.click("#layouts .tabs button", "people"))
        page.label = page.pixels(".label-pane img")
        skirt = page.color("skirt")
        page.point_at(skirt).perform()
        page.wait(lambda: page.find(".hint").text == "skirt")

        # clicks change what was clicked, and little else
        pictures = [page.picture()]
        for _ in range(5):
            page.answered(page.point_at(skirt).click().perform)
            pictures.append(page.picture())
        *_, start, after = pictures
        changed = np.abs(np.diff(pictures, axis=0)).mean((0, 3))  # of all, for two looks may be much alike
        assert changed[skirt].mean() > 5 * changed[~skirt].mean() > 0
        page.slide("blend", 0)
        page.wait(lambda: np.array_equal(page.picture(), start))
        page.slide("blend", 1)
        page.wait(lambda: np.array_equal(page.picture(), after))

        # a lock holds; undo goes back
        page.click("[data-tool=lock]")
        page.answered(page.point_at(skirt).click().perform)
        assert page.find(".hint").text == "skirt, kept" and np.array_equal(page.picture(), after)
        changes = []
        for _ in range(4):
            page.answered(lambda: page.click("#sample"))
            changes.append(np.abs(page.picture() - after).mean(2))
        assert np.mean(changes, 0)[~skirt].mean() > 2 * np.mean(changes, 0)[skirt].mean()
        page.answered(lambda: page.click(".chip", "skirt", inner=".style"))
        assert "skirt is kept" in page.wait(lambda: page.find(".notice").text)
        for _ in changes:
            page.answered(lambda: page.click("#undo"))
        assert np.array_equal(page.picture(), after)

        # a stroke is painted
        page.click("[data-tool=paint]")
        page.answered(lambda: page.point_at(skirt).click_and_hold().move_by_offset(0, 30).release().perform())
        assert not np.array_equal(page.pixels(".label-pane img"), page.label)

        # another visitor sees nothing of it
        first, steps = browser.current_window_handle, len(browser.find_elements(page.by, "#history button"))
        browser.switch_to.new_window("tab")
        other = Visitor(browser, address)
        other.answered(other.find("#sample").click)
        assert other.label.shape == (128, 128, 3) and len(browser.find_elements(page.by, "#history button")) == 2
        browser.close()
        browser.switch_to.window(first)
        page.answered(lambda: page.click(".chip", "blazer", inner=".lock"))
        assert steps == len(browser.find_elements(page.by, "#history button")) == 9

        # an absurd upload gets its message, a good one is used
        page.click("#own button")
        drop = ".drop[data-kind=label]"
        page.wait(lambda: page.find(drop).is_displayed())
        page.find(f"{drop} input").send_keys(str(tmp_path / "a<b>.png"))
        page.wait(lambda: "a<b>.png (8192x8192: more than 17 million pixels)" in page.find(drop).text)
        page.find(f"{drop} input").send_keys(str(ids))
        page.wait(lambda: "suit.png, 128×256" in page.find(drop).text)
        page.answered(lambda: page.click("#use-layout"))
        assert page.find(".chip", "suit") and not np.array_equal(page.pixels(".label-pane img"), page.label)

        # what is downloaded is what is seen
        page.click("#download")
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
