"""The demo's page: :mod:`editing.session` wired to Gradio. What is particular to it, the two panes, is ``stage.*``.

Words that are not ours (names of files, layouts, classes) never go into a template: Gradio would run them. They are
data of a component, and its script sets them as text.
"""
import asyncio
import base64
import contextvars
import dataclasses
import io
import itertools
import math
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from fastapi import FastAPI
from PIL import Image

from data.sample import SampleReader
from editing.saved import restored, saved
from editing.session import THUMBNAIL, WHOLE, Canvas, Editor, Session, Step
from editing.uploads import KINDS, MOST_BYTES, Upload, layout_of, read_styles, take_upload
from editing.visitors import Visitors
from models.batches import Batch
from util.errors import UserError, in_one_line
from util.palette import label_palette

HERE = Path(__file__).parent
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # none that would be fetched
MOST_REFERENCES = 8  # pictures of a model, to take styles from
CSS = (HERE / "page.css").read_text(encoding="utf-8")
Change = Callable[..., Session | None]  # of a session, by what a visitor asks for: see Page.build


class Example(NamedTuple):
    """A layout to begin with; where there is a photo of it, ``batch`` has it."""

    name: str
    batch: Batch


class Studio(NamedTuple):
    """A model, and the layouts to begin with; a blank one is added."""

    title: str
    editor: Editor
    examples: Sequence[Example]


class Page:
    """Builds the page, and answers it. All that it keeps of visitors is in ``visitors``.

    :param studios: one or more; the page begins with the first.
    """

    def __init__(self, studios: Sequence[Studio]):
        self.studios = {studio.editor.model: studio for studio in studios}
        self._readers = {name: SampleReader(studio.editor.opt) for name, studio in self.studios.items()}
        self._counter = itertools.count(1)  # tells pages which of two views is the newer one
        self._layouts = [(studio.editor, name, canvas) for studio in studios for name, canvas in _canvases(studio)]
        self._references = [(studio.editor, step) for studio in studios for step in _references(studio)]
        self._start = self._layouts[0][0].start(self._layouts[0][2])  # what everybody sees first: looking costs nothing
        self.visitors = Visitors()
        # all is done in one thread: each that draws would keep memory of its own for it
        self.worker = ThreadPoolExecutor(1)

    def build(self) -> gr.Blocks:
        has_encoder = any(studio.editor.has_encoder for studio in self.studios.values())
        groups = [{"id": name, "title": studio.title} for name, studio in self.studios.items()]
        with gr.Blocks(title="INADE", analytics_enabled=False) as blocks:
            titles = _plain(", ".join(studio.title for studio in self.studios.values()))
            gr.Markdown("# One layout, many pictures\nThe layout says what is where; each part of the picture has a "
                        f"look of its own. Click one: it is drawn in another look. By INADE: {titles}.",
                        sanitize_html=True, elem_id="title")
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    stage = _html("stage", (HERE / "stage.html").read_text(encoding="utf-8"),
                                  ("stage", "brush", "zoom"))
                    offers = _strip("offers", "Click one to take it")
                with gr.Column(scale=3, min_width=300):
                    with gr.Row():
                        sample = gr.Button("New look for all", variant="primary", elem_id="sample", size="md",
                                           min_width=60)
                        offer = gr.Button("Six looks for all", elem_id="six", size="md", min_width=60)
                    history = _strip("history", "History")
                    blend = gr.Slider(0, 1, 1, step=0.01, label="Before or after", elem_id="blend", buttons=[],
                                      info="0: before the last change, 1: after it; or in between")
                    truncation = gr.Slider(0, 1.5, 1, step=0.05, label="Variety", elem_id="truncation", buttons=[],
                                           info="low: looks that are usual; high: looks that are rare")
                    only = gr.Checkbox(label="Only inside", elem_id="only-inside", info="what is around the changed "
                                       "part stays as it was (a composite); else a new look changes a little of it")
                    keep = gr.Checkbox(label="Keep these looks when another layout is chosen", elem_id="keep",
                                       container=False)
                    layouts = _strip("layouts", "Layouts", groups, [
                        {"group": editor.model, "name": name,
                         "picture": _thumbnail(editor.colors[canvas.label], Image.Resampling.NEAREST)}
                        for editor, name, canvas in self._layouts])
                    download = gr.Button("Download picture, layout and looks", size="sm", elem_id="download")
                    saver, notice = _html("saver"), _html("notice")
            references = _strip("photos", "Copy looks from a picture", groups, [
                {"group": editor.model, "name": step.what, "picture": _thumbnail(step.picture)}
                for editor, step in self._references], has_tabs=False)
            with gr.Accordion("Use your own layout, saved looks" + (", or the looks of your photo" if has_encoder
                                                                               else ""), open=False, elem_id="own"):
                drops = _html("drops", '<div class="drops"></div>', most_bytes=MOST_BYTES)
                drops.value = self._tiles(self._start)
                with gr.Row():
                    use_layout = gr.Button("Use the layout", size="sm", elem_id="use-layout")
                    use_photo = gr.Button("Copy the photo's looks", size="sm", elem_id="use-styles",
                                          visible=has_encoder)
                    use_saved = gr.Button("Use the saved looks", size="sm", elem_id="use-saved")

            view = {"stage": stage, "offers": offers, "blend": blend, "truncation": truncation, "only": only,
                    "history": history, "layouts": layouts, "references": references, "drops": drops}

            def on(event: Callable, change: Change, inputs: Sequence = (), shows: Mapping[str, Any] = view,
                   show: Callable = self._view, trigger_mode: str = "multiple") -> None:
                """Let an event do ``change``: it gets the session, what the event says, and the values of ``inputs``.
                ``show`` makes of the session what ``shows`` names."""
                # no queue of Gradio's: it would keep answers that nobody fetches, and let one visitor fill it
                event(self._handler(change, show, list(shows)), list(inputs), [*shows.values(), notice], queue=False,
                      trigger_mode=trigger_mode, show_progress="hidden", api_visibility="private")

            on(blocks.load, lambda session, said: session)
            on(stage.act, self._act)
            on(sample.click, lambda session, said: self._editor(session).resample(session))
            on(offer.click, lambda session, said: self._editor(session).offer(session))
            on(offers.pick, lambda session, said: self._editor(session).choose(session, int(said["index"])))
            # sliders answer while they move; their own value is not sent back, or it would jump
            for slider, slide in ((blend, Editor.blend), (truncation, Editor.truncate)):
                on(slider.input, lambda session, said, value, slide=slide: slide(self._editor(session), session,
                                                                                _finite(value)), [slider],
                   {name: part for name, part in view.items() if part is not slider}, trigger_mode="always_last")
            on(only.input, lambda session, said, value: dataclasses.replace(session, only_inside=value is True), [only])
            on(history.pick, lambda session, said: session.go_to(int(said["index"])))
            on(history.take, lambda session, said: dataclasses.replace(session, source=session.steps[_index(said)]))
            on(layouts.pick, self._open, [keep])
            on(references.pick, lambda session, said: dataclasses.replace(
                session, source=self._references[_index(said)][1]))
            on(drops.take, self._upload, shows={"drops": drops}, show=self._files)
            on(use_layout.click, self._use_layout)
            on(use_photo.click, self._use_photo)
            on(use_saved.click, self._use_saved)
            on(download.click, lambda session, said: session, shows={"saver": saver}, show=self._download)
        return blocks

    def app(self) -> FastAPI:
        """The application that serves the page. Nothing is fetched from the internet, reported, or kept on the disk."""
        theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=SYSTEM_FONTS,
                                  font_mono=("ui-monospace", "monospace"))
        theme.set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")  # by day it was pale
        blocks = self.build().queue(api_open=False)
        blocks.state_session_capacity = 1  # Gradio's own notes of visitors, which nothing here reads
        return gr.mount_gradio_app(
            FastAPI(openapi_url=None), blocks, "/", theme=theme, css=CSS, ssr_mode=False, pwa=False,
            enable_monitoring=False, mcp_server=False, footer_links=[], run_history=False, show_error=False)

    # ---- what is answered ----

    def _handler(self, change: Change, show: Callable, names: Sequence[str]) -> Callable:
        """The function that Gradio calls: the values of what ``names`` lists, and last what the visitor is told."""

        def work(request: gr.Request, event: gr.EventData, *values: Any) -> list[Any]:
            visitor, address = str(request.session_hash), request.client.host if request.client else ""
            session, words = self.changed(visitor, address, lambda session: change(session, event and event._data,
                                                                                   *values))
            shown = show(session)
            return [*(shown[name] for name in names), {"text": words, "count": next(self._counter), "visitor": visitor}]

        async def answer(request: gr.Request, event: gr.EventData, *values: Any) -> list[Any]:
            run = contextvars.copy_context().run  # Gradio's notes of what it is doing
            return await asyncio.get_running_loop().run_in_executor(self.worker, run, work, request, event, *values)

        return answer

    def changed(self, visitor: str, address: str, change: Callable[[Session], Session]) -> tuple[Session, str]:
        """What ``change`` makes of a visitor's session, which is kept if it is another one; and what to tell."""
        before, words = self.visitors.get(visitor) or self._start, ""
        if self.visitors.was_dropped(visitor):
            words = "What you made was dropped: it was idle for too long, or others needed the memory. "
        session = before
        try:
            session = change(before)
        except UserError as error:
            words += str(error)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError):  # of a hand-made request
            words += "That was not a request of this page."
        except Exception as error:
            if in_one_line(error) is None:
                traceback.print_exc()
            print(f"not done for a visitor: {in_one_line(error) or type(error).__name__}", file=sys.stderr, flush=True)
            words += "The server could not do this: it may lack memory or disk space. Try again later."
        if session is not before or before is not self._start:
            self.visitors.keep(visitor, address, session)
        return session, words

    def _editor(self, session: Session) -> Editor:
        return self.studios[session.step.model].editor

    def _act(self, session: Session, said: Mapping[str, Any]) -> Session:
        """What the stage asks for."""
        editor = self._editor(session)
        changes = {
            "resample": lambda: editor.resample(session, int(said["instance"])),
            "offer": lambda: editor.offer(session, int(said["instance"])),
            "lock": lambda: session.toggle_lock(int(said["instance"])),
            "paint": lambda: editor.paint(
                session, int(said["kind"]), float(said["radius"]), [(float(x), float(y)) for x, y in said["points"]],
                said["fresh"] is True),
            "fill": lambda: editor.fill(session, int(said["kind"]), (float(said["x"]), float(said["y"])),
                                        said["fresh"] is True),
            "take": lambda: editor.take_styles(session, session.source, (
                int(said["instance"]), None if said["from"] is None else int(said["from"]))),
            "take all": lambda: editor.take_styles(session, session.source),
            "undo": session.undo,
            "redo": session.redo,
            "restore": lambda: self._restored(said),
        }
        return changes[said["act"]]()

    def _restored(self, said: Mapping[str, Any]) -> Session:
        """What the page showed before it was loaded anew, with its history if that is still kept; or what a link
        says."""
        kept = self.visitors.get(said["visitor"]) if isinstance(said.get("visitor"), str) else None
        if kept:
            return kept
        name = said["saved"]["model"]
        if name not in self.studios:
            raise UserError("the saved picture is from a model that this demo does not have")
        return restored(self.studios[name].editor, said["saved"])

    def _open(self, session: Session, said: Mapping[str, Any], keep: object) -> Session:
        editor, name, canvas = self._layouts[_index(said)]
        return editor.open(session, canvas, name, keep is True)

    def _upload(self, session: Session, said: Mapping[str, Any]) -> Session:
        """Keep a file for as long as the visit; what is wrong with it stands where it was dropped."""
        kind, content = said["kind"], base64.b64decode(said["data"], validate=True)
        if kind not in KINDS:
            raise ValueError(kind)
        try:
            return session.with_upload(kind, take_upload(content, str(said["name"]), kind,
                                                         self._readers[session.step.model]))
        except UserError as error:
            return session.with_refusal(kind, str(error))

    def _use_layout(self, session: Session, said: object) -> Session:
        editor = self._editor(session)
        batch = layout_of(session.uploads, editor.synthesizer, with_photo=False)
        return editor.open(session, editor.canvas(batch), session.uploads["label"].name)

    def _use_photo(self, session: Session, said: object) -> Session:
        if "photo" not in session.uploads:
            raise UserError("there is no photo: drop one first, with its label map")
        editor = self._editor(session)
        source = editor.seen(layout_of(session.uploads, editor.synthesizer, with_photo=True),
                             f"photo {session.uploads['photo'].name}")
        return dataclasses.replace(editor.take_styles(session, source), source=source)

    def _use_saved(self, session: Session, said: object) -> Session:
        if "styles" not in session.uploads:
            raise UserError("there are no saved looks: drop the styles.npz of a download first")
        file, editor = session.uploads["styles"], self._editor(session)
        looks = read_styles(file.pixels.tobytes(), file.name, self._readers[session.step.model])
        return editor.use_styles(session, looks, file.name)

    def _download(self, session: Session) -> dict[str, Any]:
        data = self._editor(session).download(session)
        return {"saver": {"name": "inade.zip", "data": base64.b64encode(data).decode()}}

    # ---- what is shown ----

    def _view(self, session: Session) -> dict[str, Any]:
        """What :meth:`build` calls ``view``."""
        step, editor = session.step, self._editor(session)
        whole = {"id": WHOLE, "kind": WHOLE, "name": "overall look", "color": "transparent", "locked": False}
        height, width = step.canvas.label.shape
        stage = {"count": next(self._counter), "model": step.model, "width": width, "height": height,
                 "picture": _png(step.picture), "label": _png(editor.colors[step.canvas.label]),
                 "ids": _ids(step.canvas), "instances": [*self._instances(step, session.locked), whole],
                 "classes": [{"id": k, "name": editor.name(k), "color": _color(editor, k)}
                             for k in range(editor.opt.num_classes)],
                 "background": editor.background, "has_instances": editor.has_instances,
                 "composite": step.under is not None, "can_undo": session.position > 0,
                 "can_redo": session.position + 1 < len(session.steps), "saved": saved(session),
                 "source": session.source and {
                     "name": session.source.what, "picture": _png(session.source.picture),
                     "ids": _ids(session.source.canvas), "instances": self._instances(session.source)}}
        history = [{"name": step.what, "picture": _url(step.thumbnail, "webp"), "state":
                    "current" if n == session.position else "undone" if n > session.position else ""}
                   for n, step in enumerate(session.steps)]
        offers = [{"name": f"{step.what} {n}", "picture": _url(step.thumbnail, "webp")}
                  for n, step in enumerate(session.offers, 1)]
        return {"stage": stage, "offers": offers, "only": session.only_inside,
                "blend": gr.Slider(value=step.blend, interactive=session.can_blend), "truncation": step.truncation,
                "history": history, "layouts": {"group": step.model}, "references": {"group": step.model},
                **self._files(session)}

    def _instances(self, step: Step, locked: Collection[int] = ()) -> list[dict[str, Any]]:
        editor = self.studios[step.model].editor
        instances = [{"id": number, "kind": kind, "name": editor.name(kind), "color": _color(editor, kind),
                      "locked": number in locked} for number, kind in step.canvas.instances().items()]
        many, seen = Counter(one["name"] for one in instances), Counter()
        for one in instances:
            name = one["name"]
            seen[name] += 1
            if many[name] > 1:
                one["name"] += f" #{seen[name]}"
        return instances

    def _files(self, session: Session) -> dict[str, Any]:
        return {"drops": self._tiles(session)}

    def _tiles(self, session: Session) -> list[dict[str, str]]:
        """What the tiles for uploads show."""
        editor = self._editor(session)
        titles = {"photo": "Photo", "label": "Label map", "instance": "Instance map", "styles": "Saved looks"}
        notes = {"photo": "drop or choose a file", "label": "what is where: a PNG of class ids",
                 "instance": "what is one thing: a PNG of instance ids", "styles": "styles.npz of a download"}
        left_out = {"photo": not editor.has_encoder, "instance": not editor.has_instances}
        tiles = []
        for kind in (kind for kind in KINDS if not left_out.get(kind)):
            tile = {"kind": kind, "title": titles[kind], "note": notes[kind]}
            if kind in session.uploads:
                tile |= _tile(editor, kind, session.uploads[kind])
            wrong = session.refused.get(kind)
            tiles.append({**tile, **({"note": wrong, "state": "wrong"} if wrong else {})})
        return tiles


def _canvases(studio: Studio) -> list[tuple[str, Canvas]]:
    """Layouts to begin with, and their names."""
    return [*((example.name.replace("_", " "), studio.editor.canvas(example.batch)) for example in studio.examples),
            ("blank", studio.editor.blank())]


def _references(studio: Studio) -> list[Step]:
    """Pictures to take styles from: photos of the layouts, or where there are none, what the networks make of them."""
    editor, examples = studio.editor, studio.examples
    photos = [example for example in examples if editor.has_encoder and example.batch.image is not None]
    if photos:
        return [editor.seen(example.batch, f"photo {example.name.replace('_', ' ')}") for example in photos]
    return [editor.start(canvas, name, seed).step
            for seed, (name, canvas) in enumerate(_canvases(studio)[:-1][:MOST_REFERENCES], 1)]


def _tile(editor: Editor, kind: str, upload: Upload) -> dict[str, str]:
    name, (width, height), pixels = upload
    if kind == "styles":
        return {"note": name}
    if kind != "photo":
        pixels = editor.colors[pixels] if kind == "label" else label_palette(256)[pixels % 256]
    return {"note": f"{name}, {width}×{height}", "picture": _thumbnail(pixels)}


def _color(editor: Editor, kind: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*editor.colors[kind].tolist())


def _ids(canvas: Canvas) -> str:
    """The instance ids, as colours of a picture."""
    ids = canvas.instance
    return _png(np.stack([ids % 256, ids // 256, 0 * ids], 2).astype(np.uint8))


def _index(said: Mapping[str, Any]) -> int:
    """Of a picture that was clicked.

    :raises ValueError: it is negative.
    """
    index = int(said["index"])
    if index < 0:
        raise ValueError(index)
    return index


def _html(name: str, template: str = "", scripts: Sequence[str] = (), **options: Any) -> gr.HTML:
    """A component whose template is fixed, and whose ``value`` is data that its scripts show."""
    scripts = scripts or (name,)
    style = HERE / f"{scripts[0]}.css"
    return gr.HTML(None, html_template=template, elem_id=name,
                   css_template=style.read_text(encoding="utf-8") if style.exists() else "",
                   js_on_load="\n".join((HERE / f"{script}.js").read_text(encoding="utf-8") for script in scripts),
                   **options)


def _strip(elem_id: str, heading: str, groups: Sequence[dict[str, str]] = (), pictures: Sequence[dict[str, str]] = (),
           has_tabs: bool = True) -> gr.HTML:
    """Pictures with their names: its value, or fixed ones, of which its value names a group. Events ``pick``, ``take``.
    """
    strip = _html(elem_id, f'<h2>{heading}</h2><div class="tabs" role="tablist"></div><div class="strip"></div>',
                  ("strip",), pictures=list(pictures), groups=list(groups) if has_tabs else [])
    strip.value = {"group": groups[0]["id"]} if groups else []
    return strip


def _plain(text: str) -> str:
    """Text for a place that takes HTML or Markdown."""
    return re.sub(r"[^\w .,:;()?×-]|_", lambda letter: f"&#{ord(letter[0])};", text)


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _png(picture: np.ndarray) -> str:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "PNG", compress_level=3)
    return _url(target.getvalue(), "png")


def _thumbnail(picture: np.ndarray, resample: Image.Resampling = Image.Resampling.LANCZOS) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), resample)
    return _png(np.asarray(image))
