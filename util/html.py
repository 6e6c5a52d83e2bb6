"""Web pages of rows of pictures; text is escaped by dominate."""
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

import dominate
from dominate import tags

from util.files import write_atomically

_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; }
h3 { font-weight: 500; margin: 1.5em 0 .4em; }
.row { white-space: nowrap; overflow-x: auto; }
figure { display: inline-block; margin: 0 .5em .5em 0; vertical-align: top; text-align: center; }
figcaption { white-space: normal; font-size: 12px; color: #666; overflow-wrap: anywhere; }
"""


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

    def save(self, path: str) -> None:
        write_atomically(path, self._document.render())
