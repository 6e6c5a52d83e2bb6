"""Web pages of rows of pictures, and curves; text is escaped by dominate."""
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

import dominate
from dominate import svg, tags

from util.files import write_atomically

_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; }
h3 { font-weight: 500; margin: 1.5em 0 .4em; }
.row { white-space: nowrap; overflow-x: auto; }
figure { display: inline-block; margin: 0 .5em .5em 0; vertical-align: top; text-align: center; }
svg { font-size: 12px; fill: #666; overflow: visible; }
figcaption { white-space: normal; font-size: 12px; color: #666; overflow-wrap: anywhere; }
"""
_CURVE = 640, 200  # width and height in pixels
_MARGIN = 60


class Picture(NamedTuple):
    """A picture on a page: its path relative to the page, and what stands below it."""

    path: str
    caption: str


class Page:
    """A page of headed rows of pictures.

    :param width: pixels at which pictures are shown.
    :param refresh: seconds after which a browser reloads the page; 0: never.
    """

    def __init__(self, title: str, width: int, refresh: int = 0):
        self.width = width
        self._document = dominate.document(title=title)
        with self._document.head:
            tags.meta(charset="utf-8")
            if refresh:
                tags.meta(http_equiv="refresh", content=str(refresh))
            tags.style(dominate.util.raw(_STYLE))
        self._document.add(tags.h1(title))

    def add_text(self, text: str) -> None:
        self._document.add(tags.p(text))

    def add_row(self, heading: str, pictures: Sequence[Picture]) -> None:
        if heading:
            self._document.add(tags.h3(heading))
        with self._document.add(tags.div(cls="row")):
            for picture in pictures:
                with tags.figure(style=f"max-width: {self.width}px"):
                    with tags.a(href=quote(picture.path)):
                        tags.img(src=quote(picture.path), width=self.width, alt=picture.caption, loading="lazy")
                    tags.figcaption(picture.caption)

    def add_curve(self, heading: str, x_name: str, points: Sequence[tuple[float, float]]) -> None:
        """A line through ``points`` (x, y), in order of x; at least one, all finite. The lowest is marked."""
        self._document.add(tags.h3(heading))
        (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
        width, height = _CURVE

        def place(x: float, y: float) -> tuple[float, float]:  # equal values lie in the middle
            across = (x - left) / (right - left) if right > left else 0.5
            down = (high - y) / (high - low) if high > low else 0.5
            return round(_MARGIN + across * width, 1), round(10 + down * height, 1)

        best = min(points, key=lambda point: point[1])
        with self._document.add(svg.svg(width=width + 2 * _MARGIN, height=height + 50)):
            svg.polyline(points=" ".join("{},{}".format(*place(*point)) for point in points), fill="none",
                         stroke="#36c", stroke_width=2)
            for point in points:
                x, y = place(*point)
                with svg.circle(cx=x, cy=y, r=5 if point == best else 3, fill="#c33" if point == best else "#36c"):
                    svg.title(f"{x_name} {point[0]:g}: {point[1]:.4g}")
            for value in sorted({low, high}):
                svg.text(f"{value:.4g}", x=_MARGIN - 10, y=place(left, value)[1] + 4, text_anchor="end")
            for value in sorted({left, right}):
                svg.text(f"{x_name} {value:g}", x=place(value, low)[0], y=height + 35, text_anchor="middle")
        self._document.add(tags.p(f"Lowest: {best[1]:.4g} at {x_name} {best[0]:g}"))

    def save(self, path: str) -> None:
        write_atomically(path, self._document.render())
