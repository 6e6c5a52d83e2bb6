"""The demo's page: :mod:`editing.session` wired to Gradio. What is particular to it, the two panes, is ``stage.*``.

Words that are not ours (names of files, layouts, classes) never go into a template: Gradio would run them. They are
data of a component, and its script sets them as text.
"""
import base64
import io
import itertools
import math
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from fastapi import FastAPI
from PIL import Image

from data.sample import SampleReader
from editing.session import THUMBNAIL, WHOLE, Canvas, Editor, Session
from editing.uploads import KINDS, MOST_BYTES, Upload, layout_of, take_upload
from editing.visitors import Visitors
from models.batches import Batch
from util.errors import UserError, in_one_line
from util.images import to_pictures
from util.palette import label_palette

HERE = Path(__file__).parent
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # none that would be fetched
CSS = """
#layouts .strip { flex-wrap: wrap; max-height: 380px; overflow: hidden auto; }
#layouts button { min-width: 82px; }
.gradio-container { width: 100%; max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container .block { min-width: 0 !important; }
footer { display: none !important; }
"""
Change = Callable[..., Session | None]  # of a session, by what a visitor asks for: see Page.build


class Example(NamedTuple):
    """A layout to begin with; where there is a photo of it, ``batch`` has it."""

    name: str
    batch: Batch


class Page:
    """Builds the page, and answers it. All that it keeps of visitors is in ``visitors``.

    :param examples: layouts to choose from; a blank one is added.
    """

    def __init__(self, editor: Editor, examples: Sequence[Example]):
        self.editor, self.examples = editor, examples
        self._reader = SampleReader(editor.opt)
        self._classes = [{"id": k, "name": editor.name(k), "color": self._color(k)}
                         for k in range(editor.opt.num_classes)]
        self._counter = itertools.count(1)  # tells pages which of two views is the newer one
        self._canvases = [*((example.name.replace("_", " "), editor.canvas(example.batch)) for example in examples),
                          ("blank", editor.blank())]
        self._start = editor.start(self._canvases[0][1])  # what everybody sees first: looking costs nothing
        self.visitors = Visitors()
        self.drawing = threading.Lock()  # held while something is done

    def build(self) -> gr.Blocks:
        photos = [n for n, example in enumerate(self.examples)
                  if self.editor.has_encoder and example.batch.image is not None]
        title = f"INADE: {self.editor.opt.name}"
        with gr.Blocks(title=title, analytics_enabled=False) as blocks:
            gr.Markdown(f"# One layout, many pictures\nINADE, model {_plain(self.editor.opt.name)}. Every instance has "
                        "a style of its own: click one, and it alone is drawn anew.", sanitize_html=True)
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    stage = _html("stage", (HERE / "stage.html").read_text(encoding="utf-8"))
                with gr.Column(scale=3, min_width=300):
                    sample = gr.Button("New sample", variant="primary", elem_id="sample")
                    with gr.Row():
                        undo, redo = (gr.Button(name, size="sm", min_width=60, elem_id=name.lower())
                                      for name in ("Undo", "Redo"))
                    blend = gr.Slider(0, 1, 1, step=0.01, label="Blend", elem_id="blend", buttons=[],
                                      info="from before the last change to after it")
                    truncation = gr.Slider(0, 1.5, 1, step=0.05, label="Truncation", elem_id="truncation", buttons=[],
                                           info="how far styles lie from the mean")
                    layouts = _strip("layouts", "Layouts", [
                        {"name": name, "picture": _thumbnail(self._colorized(canvas), Image.Resampling.NEAREST)}
                        for name, canvas in self._canvases])
                    download = gr.Button("Download picture, layout and styles", size="sm", elem_id="download")
                    saver, notice = _html("saver"), _html("notice", '<div class="notice" role="alert" hidden></div>')
            history = _strip("history", "History", [])
            shelf = None
            if photos:
                shelf = _strip("photos", "Styles of a photo", [{"name": self.examples[n].name, "picture": _thumbnail(
                    to_pictures(self.examples[n].batch.image)[0])} for n in photos])
            with gr.Accordion("Your own layout" + (", or styles of your photo" if self.editor.has_encoder else ""),
                              open=False, elem_id="own"):
                drops = _html("drops", '<div class="drops"></div>', most_bytes=MOST_BYTES)
                drops.value = self._tiles({}, {})
                with gr.Row():
                    use_layout = gr.Button("Use the layout", size="sm", elem_id="use-layout")
                    use_styles = gr.Button("Take the photo's styles", size="sm", elem_id="use-styles",
                                           visible=self.editor.has_encoder)

            view = {"stage": stage, "undo": undo, "redo": redo, "blend": blend, "truncation": truncation,
                    "history": history}

            def on(event: Callable, change: Change, inputs: Sequence = (), shows: Mapping[str, Any] = view,
                   show: Callable = self._view, trigger_mode: str = "multiple") -> None:
                """Let an event do ``change``: it gets the session, what the event says, and the values of ``inputs``.
                ``show`` makes of the session what ``shows`` names."""
                # no queue of Gradio's: it would keep answers that nobody fetches, and let one visitor fill it
                event(self._handler(change, show, list(shows)), list(inputs), [*shows.values(), notice], queue=False,
                      trigger_mode=trigger_mode, show_progress="hidden", api_visibility="private")

            on(blocks.load, lambda session, said: session)
            on(stage.act, self._act)
            on(sample.click, lambda session, said: self.editor.resample(session))
            on(undo.click, lambda session, said: session.undo())
            on(redo.click, lambda session, said: session.redo())
            # sliders answer while they move; their own value is not sent back, or it would jump
            for slider, slide in ((blend, self.editor.blend), (truncation, self.editor.truncate)):
                on(slider.input, lambda session, said, value, slide=slide: slide(session, _finite(value)), [slider],
                   {name: part for name, part in view.items() if part is not slider}, trigger_mode="always_last")
            on(history.pick, lambda session, said: session.go_to(int(said["index"])))
            on(layouts.pick, self._open)
            if shelf:
                on(shelf.pick, lambda session, said: self._take(session, photos[int(said["index"])]))
            on(drops.take, self._upload, shows={"drops": drops}, show=self._files)
            on(use_layout.click, self._use_layout)
            on(use_styles.click, self._use_styles)
            on(download.click, lambda session, said: session, shows={"saver": saver}, show=self._download)
        return blocks

    def app(self) -> FastAPI:
        """The application that serves the page. Nothing is fetched from the internet, reported, or kept on the disk."""
        theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=SYSTEM_FONTS,
                                  font_mono=("ui-monospace", "monospace"))
        blocks = self.build().queue(api_open=False)
        blocks.state_session_capacity = 1  # Gradio's own notes of visitors, which nothing here reads
        return gr.mount_gradio_app(
            FastAPI(openapi_url=None), blocks, "/", theme=theme, css=CSS, ssr_mode=False, pwa=False,
            enable_monitoring=False, mcp_server=False, footer_links=[], run_history=False, show_error=False)

    # ---- what is answered ----

    def _handler(self, change: Change, show: Callable, names: Sequence[str]) -> Callable:
        """The function that Gradio calls: the values of what ``names`` lists, and last what the visitor is told."""

        def answer(request: gr.Request, event: gr.EventData, *values: Any) -> list[Any]:
            with self.drawing:
                visitor, address = str(request.session_hash), request.client.host if request.client else ""
                session, words = self.changed(visitor, address, lambda session: change(session, event and event._data,
                                                                                       *values))
                shown = show(session)
            return [*(shown[name] for name in names), {"text": words, "count": next(self._counter)}]

        return answer

    def changed(self, visitor: str, address: str, change: Callable[[Session], Session]) -> tuple[Session, str]:
        """What ``change`` makes of a visitor's session, which is kept if it is another one; and what to tell."""
        before, words = self.visitors.get(visitor) or self._start, ""
        if self.visitors.was_dropped(visitor):
            words = "What you made was dropped: it lay idle, or others needed the room. You start anew. "
        session = before
        try:
            session = change(before)
        except UserError as error:
            words += str(error)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError):  # of a hand-made request
            words += "That was no request of this page."
        except Exception as error:
            if in_one_line(error) is None:
                traceback.print_exc()
            print(f"not done for a visitor: {in_one_line(error) or type(error).__name__}", file=sys.stderr, flush=True)
            words += "The server could not do this: it may lack memory or room. Try again later, or something smaller."
        if session is not before or before is not self._start:
            self.visitors.keep(visitor, address, session)
        return session, words

    def _act(self, session: Session, said: Mapping[str, Any]) -> Session:
        """What the stage asks for."""
        editor = self.editor
        changes = {
            "resample": lambda: editor.resample(session, int(said["instance"])),
            "lock": lambda: session.toggle_lock(int(said["instance"])),
            "paint": lambda: editor.paint(
                session, int(said["kind"]), float(said["radius"]), [(float(x), float(y)) for x, y in said["points"]],
                said["fresh"] is True),
            "undo": session.undo,
            "redo": session.redo,
        }
        return changes[said["act"]]()

    def _open(self, session: Session, said: Mapping[str, Any]) -> Session:
        name, canvas = self._canvases[int(said["index"])]
        return self.editor.open(session, canvas, name)

    def _take(self, session: Session, index: int) -> Session:
        return self.editor.take_styles(session, self.examples[index].batch, f"photo {self.examples[index].name}")

    def _upload(self, session: Session, said: Mapping[str, Any]) -> Session:
        """Keep a file for as long as the visit; what is wrong with it stands where it was dropped."""
        kind, content = said["kind"], base64.b64decode(said["data"], validate=True)
        if kind not in KINDS:
            raise ValueError(kind)
        try:
            return session.with_upload(kind, take_upload(content, str(said["name"]), kind, self._reader))
        except UserError as error:
            return session.with_refusal(kind, str(error))

    def _use_layout(self, session: Session, said: object) -> Session:
        batch = layout_of(session.uploads, self.editor.synthesizer, with_photo=False)
        return self.editor.open(session, self.editor.canvas(batch), session.uploads["label"].name)

    def _use_styles(self, session: Session, said: object) -> Session:
        if "photo" not in session.uploads:
            raise UserError("there is no photo: drop one first, with its label map")
        batch = layout_of(session.uploads, self.editor.synthesizer, with_photo=True)
        return self.editor.take_styles(session, batch, f"photo {session.uploads['photo'].name}")

    def _download(self, session: Session) -> dict[str, Any]:
        data = self.editor.download(session)
        return {"saver": {"name": "inade.zip", "data": base64.b64encode(data).decode()}}

    # ---- what is shown ----

    def _view(self, session: Session) -> dict[str, Any]:
        """What :meth:`build` calls ``view``."""
        step = session.step
        instances = [{"id": number, "name": self.editor.name(kind), "color": self._color(kind),
                      "locked": number in session.locked} for number, kind in step.canvas.instances().items()]
        many, seen = Counter(one["name"] for one in instances), Counter()
        for one in instances:
            name = one["name"]
            seen[name] += 1
            if many[name] > 1:
                one["name"] += f" #{seen[name]}"
        ids = np.stack([step.canvas.instance % 256, step.canvas.instance // 256, 0 * step.canvas.instance], 2)
        whole = {"id": WHOLE, "name": "whole picture (z)", "color": "transparent", "locked": False}
        height, width = step.canvas.label.shape
        stage = {"count": next(self._counter), "width": width, "height": height, "picture": _png(step.picture),
                 "label": _png(self._colorized(step.canvas)), "ids": _png(ids.astype(np.uint8)),
                 "instances": [*instances, whole],
                 "classes": self._classes, "has_instances": self.editor.has_instances}
        history = [{"name": step.what, "picture": _url(step.thumbnail, "webp"), "state":
                    "current" if n == session.position else "undone" if n > session.position else ""}
                   for n, step in enumerate(session.steps)]
        return {"stage": stage, "undo": gr.Button(interactive=session.position > 0),
                "redo": gr.Button(interactive=session.position + 1 < len(session.steps)),
                "blend": gr.Slider(value=step.blend, interactive=session.can_blend), "truncation": step.truncation,
                "history": history}

    def _files(self, session: Session) -> dict[str, Any]:
        return {"drops": self._tiles(session.uploads, session.refused)}

    def _colorized(self, canvas: Canvas) -> np.ndarray:
        return self.editor.colors[canvas.label]

    def _color(self, kind: int) -> str:
        return "#{:02x}{:02x}{:02x}".format(*self.editor.colors[kind].tolist())

    def _tiles(self, uploads: Mapping[str, Upload], wrong: Mapping[str, str]) -> list[dict[str, str | int]]:
        """What the tiles for uploads show; ``wrong``: what is to be said of a kind."""
        titles = {"photo": "Photo", "label": "Label map", "instance": "Instance map"}
        notes = {"photo": "drop or choose a file", "label": "a PNG of class ids", "instance": "a PNG of instance ids"}
        left_out = {"photo": not self.editor.has_encoder, "instance": not self.editor.has_instances}
        tiles = []
        for kind in (kind for kind in KINDS if not left_out.get(kind)):
            tile = {"kind": kind, "title": titles[kind], "note": notes[kind], "count": next(self._counter)}
            if kind in uploads:
                name, (width, height), pixels = uploads[kind]
                if kind != "photo":
                    pixels = self.editor.colors[pixels] if kind == "label" else label_palette(256)[pixels % 256]
                tile |= {"note": f"{name}, {width}×{height}", "picture": _thumbnail(pixels)}
            tiles.append({**tile, **({"note": wrong[kind], "state": "wrong"} if wrong.get(kind) else {})})
        return tiles


def _html(name: str, template: str = "", script: str = "", **options: Any) -> gr.HTML:
    """A component whose template is fixed, and whose ``value`` is data that its script shows."""
    style = HERE / f"{script or name}.css"
    return gr.HTML(None, html_template=template, elem_id=name,
                   css_template=style.read_text(encoding="utf-8") if style.exists() else "",
                   js_on_load=(HERE / f"{script or name}.js").read_text(encoding="utf-8"), **options)


def _strip(elem_id: str, heading: str, pictures: list[dict[str, str]]) -> gr.HTML:
    """Pictures with their names; event ``pick``."""
    strip = _html(elem_id, f'<h2>{heading}</h2><div class="strip"></div>', "strip")
    strip.value = pictures
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
