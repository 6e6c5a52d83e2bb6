"""Web pages of rows of pictures, and curves. They need no server and only their own files; dominate escapes text.

What a page looks like is in ``page.css``; ``page.js`` adds outlines of regions and a viewer of pictures at full size.
"""
import base64
import contextlib
import glob
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import dominate
import numpy as np
from dominate import svg, tags
from dominate.util import raw

from util.files import read_text, write_atomically
from util.ranks import ranked

_STYLE, _SCRIPT = (read_text(os.path.join(os.path.dirname(__file__), f"page.{kind}")) for kind in ("css", "js"))
_ROWS = 50  # on each of a page's files
_CURVE = 300, 110  # width and height of the area that points lie in, in units of the drawing
_MARGIN = 8


class Picture(NamedTuple):
    """A picture on a page: its path relative to the page, and what stands below it.

    :param wide: it shows something else than its layout, and is as wide as the row.
    :param frames: paths of the pictures in its place at all positions of the page's slider; ``path`` is the last.
    """

    path: str
    caption: str
    wide: bool = False
    frames: Sequence[str] = ()


class Outlines(NamedTuple):
    """Where the regions of a layout are (a region is one class in one instance), for the outlines on a page."""

    width: int
    height: int
    members: list[tuple[int, int]]  # class id and instance id of each region
    numbers: str  # of the regions, pixel by pixel: uint32, deflated, in base64

    @classmethod
    def of(cls, label: np.ndarray, instance: np.ndarray) -> "Outlines":
        """Those of the maps [H, W] of class ids and instance ids (both ≥ 0)."""
        span = int(instance.max()) + 1
        members, ranks = ranked(label.astype(np.int64) * span + instance)
        return cls(*label.shape[::-1], [divmod(member, span) for member in members.tolist()],
                   base64.b64encode(zlib.compress(ranks.astype("<u4").tobytes())).decode())

    def text(self) -> str:
        """These, for :meth:`parse`."""
        return json.dumps(self, separators=(",", ":"))

    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """The maps [H, W] of class ids and instance ids."""
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(self.numbers)), "<u4")
        label, instance = np.array(self.members)[numbers.reshape(self.height, self.width)].transpose(2, 0, 1)
        return label, instance

    @classmethod
    def parse(cls, text: str | None) -> "Outlines | None":
        """Those of :meth:`text`; None for anything else."""
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            width, height, members, numbers = json.loads(text)
            return cls(int(width), int(height), [(int(label), int(instance)) for label, instance in members],
                       str(numbers))
        return None


class PicturePage:
    """A page of headed rows of pictures, under texts and curves. Of many rows, more files are made: ``index.html`` goes
    on in ``index_2.html``.

    :param width: pixels at which pictures are shown.
    :param names: of classes, by id; and ``colors`` [C, 3] uint8: for the legend of the classes that rows show.
    :param refresh: seconds after which a browser reloads the page, unless somebody looks at a single picture; 0: never.
    """

    def __init__(self, title: str, width: int, names: Mapping[int, str] | None = None,
                 colors: np.ndarray | None = None, refresh: int = 0):
        self.title, self.width, self.names, self.colors, self.refresh = title, width, names or {}, colors, refresh
        self._texts: list[tags.html_tag] = []
        self._curves: list[tags.html_tag] = []
        self._slider: tags.html_tag | None = None
        self._rows: list[tuple[str, Sequence[Picture], Outlines | None]] = []
        self._sections: dict[int, str] = {}  # number of a row -> what stands above it

    def add_text(self, text: str) -> None:
        self._texts.append(tags.p(text))

    def add_slider(self, heading: str, positions: Sequence[str]) -> None:
        """A slider above the rows that moves all pictures with ``frames``; it begins at the last position."""
        last = len(positions) - 1
        self._slider = tags.label(
            tags.span(heading + " ", tags.output(positions[last])),
            tags.input_(type="range", min="0", max=str(last), value=str(last), autocomplete="off",
                        data_positions=json.dumps(positions)), cls="slider")

    def add_section(self, heading: str) -> None:
        """What stands above the rows that follow."""
        self._sections[len(self._rows)] = heading

    def add_row(self, heading: str, pictures: Sequence[Picture], regions: Outlines | None = None) -> None:
        """A row of pictures of one layout, which itself comes first.

        :param regions: what the pictures show where: a region is outlined in all of them when it is pointed at.
        """
        self._rows.append((heading, pictures, regions))

    def add_curve(self, heading: str, x_name: str, points: Sequence[tuple[float, float]], marked: bool = True,
                  hint: str = "") -> None:
        """A line through ``points`` (x, y), in order of x; at least one, all finite.

        :param hint: what it shows.
        :param marked: each point is marked, and the lowest named. Otherwise the last one is.
        """
        (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
        width, height = _CURVE

        def place(x: float, y: float) -> tuple[float, float]:  # equal values lie in the middle
            across = (x - left) / (right - left) if right > left else 0.5
            down = (high - y) / (high - low) if high > low else 0.5
            return round(_MARGIN + across * width, 1), round(_MARGIN + down * height, 1)

        best = min(points, key=lambda point: point[1])
        drawing = svg.svg(svg.polyline(points=" ".join("{},{}".format(*place(*point)) for point in points)),
                          viewBox=f"0 0 {width + 2 * _MARGIN} {height + 2 * _MARGIN}", role="img")
        for point in points if marked else points[-1:]:
            dot = svg.circle if marked else svg.ellipse  # an ellipse is no point of its own
            x, y = place(*point)
            size = {"r": 4} if marked else {"rx": 3, "ry": 3}
            drawing.add(dot(svg.title(f"{x_name} {point[0]:g}: {point[1]:.4g}"), cx=x, cy=y, **size,
                            cls="lowest" if marked and point == best else ""))
        ends = " – ".join(f"{value:.3g}" for value in sorted({left, right}))
        words = f"Lowest: {best[1]:.4g} at {x_name} {best[0]:g}" if marked else f"Last: {points[-1][1]:.4g}"
        self._curves.append(tags.section(
            tags.h2(heading), tags.p(hint, cls="hint"), tags.p(f"{high:.3g}"), drawing, tags.p(f"{low:.3g}", cls="low"),
            tags.p(tags.span(f"{x_name} {ends}"), tags.span(words), cls="ends"), cls="curve"))

    def save(self, path: str) -> None:
        """Write the page as ``path``, and the further files of many rows beside it; those that an earlier page had and
        this one has not are removed."""
        stem, suffix = os.path.splitext(path)
        parts = [self._rows[start:start + _ROWS] for start in range(0, len(self._rows), _ROWS)] or [[]]
        paths = [path, *(f"{stem}_{number}{suffix}" for number in range(2, len(parts) + 1))]
        contents = [f"{number}: {part[0][0]} … {part[-1][0]}" if part else "" for number, part in enumerate(parts, 1)]
        for number in reversed(range(len(parts))):  # what links lead to is there first
            write_atomically(paths[number], self._render(parts[number], number, paths, contents))
        for other in glob.glob(f"{glob.escape(stem)}_*{suffix}"):
            if re.fullmatch(r"_[1-9]\d*", other[len(stem):-len(suffix)]) and other not in paths:
                with contextlib.suppress(OSError):
                    os.remove(other)

    def _render(self, rows: Sequence[tuple], number: int, paths: Sequence[str], contents: Sequence[str]) -> str:
        document = dominate.document(title=self.title, lang="en")
        document.head.add(tags.meta(charset="utf-8"),
                          tags.meta(name="viewport", content="width=device-width, initial-scale=1"))
        if self.refresh:
            document.set_attribute("data-refresh", str(self.refresh))
        document.head.add(tags.style(raw(_STYLE)))
        texts = self._texts if number == 0 else []
        if any(regions for *_, regions in rows):
            texts = [*texts, tags.p("Point at an instance or a class to see its outline. Click on a picture to see it "
                                    "at full size.")]
        document.add(tags.header(tags.h1(self.title), *texts))
        navigation = [quote(os.path.basename(path)) for path in paths], contents
        if len(paths) > 1:
            document.add(_navigation(number, *navigation))
        if number == 0 and self._curves:
            document.add(tags.div(*self._curves, cls="curves"))
        if legend := self._legend(rows):
            document.add(legend)
        if number == 0 and self._slider:
            document.add(self._slider)
        if rows:
            columns = max(sum(not picture.wide for picture in pictures) for _, pictures, _ in self._rows)
            main = document.add(tags.main(style=f"--width: {self.width}px; --columns: {columns}"))
            for index, row in enumerate(rows, number * _ROWS):
                if heading := self._sections.get(index):
                    main.add(tags.h2(heading, cls="section"))
                main.add(self._row(*row))
        if len(paths) > 1:
            document.add(_navigation(number, *navigation))
        document.add(tags.script(raw(_SCRIPT)))
        return document.render(pretty=False)

    def _row(self, heading: str, pictures: Sequence[Picture], regions: Outlines | None) -> tags.html_tag:
        row = tags.section(tags.h2(heading), cls="row")
        size = {}
        if regions:
            size = {"width": regions.width, "height": regions.height}
            row.set_attribute("data-size", f"{regions.width} {regions.height}")
            row.set_attribute("data-members", json.dumps(regions.members, separators=(",", ":")))
            row.set_attribute("data-numbers", regions.numbers)
        row.add(tags.div(*(_figure(picture, size) for picture in pictures), cls="pictures"))
        return row

    def _legend(self, rows: Sequence[tuple]) -> tags.html_tag | None:
        found = {label for *_, regions in rows if regions for label, _ in regions.members}
        classes = sorted(found & set(range(0 if self.colors is None else len(self.colors))))
        if not classes:
            return None
        return tags.ul(*(tags.li(tags.i(style="background: #{:02x}{:02x}{:02x}".format(*self.colors[label].tolist())),
                                 self.names.get(label, f"class {label}"), data_class=str(label), tabindex="0")
                         for label in classes), cls="legend", aria_label="classes")


def _figure(picture: Picture, size: Mapping[str, int]) -> tags.html_tag:
    path = quote(picture.path, errors="surrogateescape")
    shown = {"cls": "wide"} if picture.wide else {}
    frames = {"data_frames": json.dumps([quote(frame) for frame in picture.frames])} if picture.frames else {}
    return tags.figure(tags.a(tags.img(src=path, alt=picture.caption, loading="lazy", decoding="async",
                                       **({} if picture.wide else size), **frames), href=path),
                       tags.figcaption(picture.caption), **shown)


def _navigation(number: int, links: Sequence[str], contents: Sequence[str]) -> tags.html_tag:
    pages = tags.select(*(tags.option(text, value=link, **({"selected": True} if link == links[number] else {}))
                          for link, text in zip(links, contents, strict=True)), aria_label="page")
    around = [tags.a(text, href=links[other], rel=kind) if 0 <= other < len(links) else tags.span(text)
              for text, kind, other in (("‹ previous", "prev", number - 1), ("next ›", "next", number + 1))]
    return tags.nav(around[0], pages, tags.span(f"of {len(links)}"), around[1])
