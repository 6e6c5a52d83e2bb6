"""The demo's page: :mod:`editing.session` wired to Gradio. What is particular to it, the two panes, is ``stage.*``."""
import base64
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image
from starlette.middleware import Middleware

from data.sample import SampleReader
from editing.limits import LimitedRequests
from editing.session import THUMBNAIL, WHOLE, Canvas, Editor, Session
from editing.uploads import KINDS, MOST_BYTES, Upload, layout_of, take_upload
from models.batches import Batch
from util.errors import UserError
from util.images import to_pictures
from util.palette import label_palette

HERE = Path(__file__).parent
MOST_VISITORS = 100  # whose state is kept
IDLE = 3600  # seconds after which a visitor's state is dropped
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # none that would be fetched
CSS = """
#layouts .strip { flex-wrap: wrap; max-height: 380px; overflow: hidden auto; }
#layouts button { min-width: 82px; }
.gradio-container { width: 100%; max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container .block { min-width: 0 !important; }
footer { display: none !important; }
"""


class Example(NamedTuple):
    """A layout to begin with; where there is a photo of it, ``batch`` has it."""

    name: str
    batch: Batch


class Page:
    """Builds the page, and answers it. The object holds nothing of any visitor: that is in their :class:`gr.State`.

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

    def build(self) -> gr.Blocks:
        photos = [n for n, example in enumerate(self.examples)
                  if self.editor.has_encoder and example.batch.image is not None]
        title = f"INADE: {self.editor.opt.name}"
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 600)) as blocks:
            session = gr.State(None, time_to_live=IDLE)
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
                    saver = _html("saver", "")
            history = _strip("history", "History", [])
            shelf = None
            if photos:
                shelf = _strip("photos", "Styles of a photo", [{"name": self.examples[n].name, "picture": _thumbnail(
                    to_pictures(self.examples[n].batch.image)[0])} for n in photos])
            with gr.Accordion("Your own layout" + (", or styles of your photo" if self.editor.has_encoder else ""),
                              open=False, elem_id="own"):
                drops = _html("drops", _DROPS, elem_id="drops", most_bytes=MOST_BYTES)
                drops.value = self._tiles({}, {})
                with gr.Row():
                    use_layout = gr.Button("Use the layout", size="sm", elem_id="use-layout")
                    use_styles = gr.Button("Take the photo's styles", size="sm", elem_id="use-styles",
                                           visible=self.editor.has_encoder)

            view = [session, stage, undo, redo, blend, truncation, history]
            # one picture at a time, whoever asks: more would only share the processor
            shared = {"concurrency_id": "network", "concurrency_limit": 1, "show_progress": "hidden",
                      "api_visibility": "private"}

            def on(event: Callable, function: Callable, inputs: Sequence = (), outputs: Sequence = view,
                   trigger_mode: str = "multiple") -> None:
                event(function, [session, *inputs], list(outputs), trigger_mode=trigger_mode, **shared)

            blocks.load(self._load, None, view, **shared)
            on(stage.act, self._act)
            on(sample.click, lambda visitor: self._answer(visitor, self.editor.resample))
            on(undo.click, lambda visitor: self._answer(visitor, Session.undo))
            on(redo.click, lambda visitor: self._answer(visitor, Session.redo))
            # sliders answer while they move; their own value is not sent back, or it would jump
            for slider, change in ((blend, self.editor.blend), (truncation, self.editor.truncate)):
                on(slider.input, self._slide(change, slider is blend), [slider],
                   [part for part in view if part is not slider], "always_last")
            on(history.pick, self._pick(Session.go_to))
            on(layouts.pick, self._pick(self._open))
            if shelf:
                on(shelf.pick, self._pick(lambda visitor, n: self._take(visitor, photos[n])))
            on(drops.take, self._upload, outputs=[session, drops])
            on(use_layout.click, lambda visitor: self._answer(visitor, self._use_layout))
            on(use_styles.click, lambda visitor: self._answer(visitor, self._use_styles))
            on(download.click, self._download, outputs=[saver])
        return blocks

    def launch(self, host: str, port: int) -> str:
        """Serve the page; returns its address. Nothing is fetched from the internet, or reported."""
        theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=SYSTEM_FONTS,
                                  font_mono=("ui-monospace", "monospace"))
        blocks = self.build().queue(max_size=64, api_open=False)
        return blocks.launch(
            server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, theme=theme, css=CSS,
            app_kwargs={"middleware": [Middleware(LimitedRequests)]}, state_session_capacity=MOST_VISITORS,
            ssr_mode=False, pwa=False, enable_monitoring=False, mcp_server=False, footer_links=[])[1]

    # ---- what is answered ----

    def _load(self) -> list[Any]:
        return self._view(self._start())

    def _start(self) -> Session:
        return self.editor.start(self._canvases[0][1])

    def _answer(self, visitor: Session | None, change: Callable[[Session], Session]) -> list[Any]:
        """The page after ``change``."""
        return self._view(self._changed(visitor, change))

    def _changed(self, visitor: Session | None, change: Callable[[Session], Session]) -> Session:
        """What ``change`` makes of a visitor's session: where that is nothing, the same, and the visitor is told."""
        session = visitor or self._start()
        try:
            return change(session)
        except UserError as error:
            gr.Warning(_plain(str(error)))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError):  # of a hand-made request
            gr.Warning(_NO_REQUEST)
        return session

    def _act(self, visitor: Session | None, event: gr.EventData) -> list[Any]:
        """What the stage asks for."""
        data, editor = event._data, self.editor
        changes = {
            "resample": lambda session: editor.resample(session, int(data["instance"])),
            "lock": lambda session: session.toggle_lock(int(data["instance"])),
            "paint": lambda session: editor.paint(
                session, int(data["kind"]), float(data["radius"]), [(float(x), float(y)) for x, y in data["points"]],
                data["fresh"] is True),
            "undo": Session.undo,
            "redo": Session.redo,
        }
        return self._answer(visitor, lambda session: changes[data["act"]](session))

    def _slide(self, change: Callable[[Session, float], Session], is_blend: bool) -> Callable:
        def answer(visitor: Session | None, value: float) -> list[Any]:
            view = self._answer(visitor, lambda session: change(session, _finite(value)))
            del view[4 if is_blend else 5]
            return view

        return answer

    def _pick(self, change: Callable[[Session, int], Session]) -> Callable:
        def answer(visitor: Session | None, event: gr.EventData) -> list[Any]:
            return self._answer(visitor, lambda session: change(session, int(event._data["index"])))

        return answer

    def _open(self, session: Session, index: int) -> Session:
        name, canvas = self._canvases[index]
        return self.editor.open(session, canvas, name)

    def _take(self, session: Session, index: int) -> Session:
        return self.editor.take_styles(session, self.examples[index].batch, f"photo {self.examples[index].name}")

    def _upload(self, visitor: Session | None, event: gr.EventData) -> list[Any]:
        """Keep a file for as long as the visit; what is wrong with it stands where it was dropped."""
        session, data, wrong = visitor or self._start(), event._data, {}
        try:
            content = base64.b64decode(data["data"], validate=True)
            upload = take_upload(content, str(data["name"]), str(data["kind"]), self._reader)
            session = session.with_upload(data["kind"], upload)
        except UserError as error:
            wrong[data["kind"]] = str(error)
        except (KeyError, TypeError, ValueError):
            gr.Warning(_NO_REQUEST)
        return [session, self._tiles(session.uploads, wrong)]

    def _use_layout(self, session: Session) -> Session:
        batch = layout_of(session.uploads, self.editor.synthesizer, with_photo=False)
        return self.editor.open(session, self.editor.canvas(batch), session.uploads["label"].name)

    def _use_styles(self, session: Session) -> Session:
        if "photo" not in session.uploads:
            raise UserError("there is no photo: drop one first, with its label map")
        batch = layout_of(session.uploads, self.editor.synthesizer, with_photo=True)
        return self.editor.take_styles(session, batch, f"photo {session.uploads['photo'].name}")

    def _download(self, visitor: Session | None) -> dict[str, str]:
        data = self.editor.download(visitor or self._start())
        return {"name": "inade.zip", "data": base64.b64encode(data).decode()}

    # ---- what is shown ----

    def _view(self, session: Session) -> list[Any]:
        """What :meth:`build` calls ``view``."""
        step = session.step
        instances = [{"id": number, "name": self.editor.name(kind), "color": self._color(kind),
                      "locked": number in session.locked} for number, kind in step.canvas.instances().items()]
        names = [one["name"] for one in instances]
        for n, (one, name) in enumerate(zip(instances, names, strict=True)):
            if names.count(name) > 1:
                one["name"] += f" #{names[:n].count(name) + 1}"
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
        return [session, stage, gr.Button(interactive=session.position > 0),
                gr.Button(interactive=session.position + 1 < len(session.steps)),
                gr.Slider(value=step.blend, interactive=session.can_blend), step.truncation, history]

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
            tiles.append({**tile, **({"note": wrong[kind], "state": "wrong"} if kind in wrong else {})})
        return tiles


_NO_REQUEST = "That was no request of this page."
_DROPS = """<div class="drops">{{#each value}}
<label class="drop {{this.state}}" data-kind="{{this.kind}}" data-count="{{this.count}}"><strong>{{this.title}}</strong>
<input type="file" accept="image/*" aria-label="{{this.title}}">
{{#if this.picture}}<img src="{{this.picture}}" alt="">{{/if}}<span>{{this.note}}</span></label>
{{/each}}</div>"""


def _html(name: str, template: str, css: str | None = None, **options: Any) -> gr.HTML:
    style = HERE / f"{css or name}.css"
    return gr.HTML(None, html_template=template, elem_id=options.pop("elem_id", name),
                   css_template=style.read_text(encoding="utf-8") if style.exists() else "",
                   js_on_load=(HERE / f"{name}.js").read_text(encoding="utf-8"), **options)


def _strip(elem_id: str, heading: str, pictures: list[dict[str, str]]) -> gr.HTML:
    """Pictures with their names; event ``pick``."""
    template = (f'<h2>{heading}</h2><div class="strip">'
                '{{#each value}}<button type="button" data-index="{{@index}}" class="{{this.state}}">'
                '<img src="{{this.picture}}" alt=""><span>{{this.name}}</span></button>{{/each}}</div>')
    strip = _html("strip", template, elem_id=elem_id)
    strip.value = pictures
    return strip


def _plain(text: str) -> str:
    """Text for a place that takes HTML or Markdown: names of files are others' words."""
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
