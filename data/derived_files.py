"""PNGs made from other files. Each is written whole, with a note of what it was made from: so it can be told later
whether it is up to date."""
import hashlib
import os
from collections.abc import Iterable

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.image_files import ORIENTATION
from util.errors import UserError
from util.files import atomic_path, regular

_KEY = "comment"  # of the text chunk that holds the note
_PNG_END = b"IEND\xaeB`\x82"


def make_note(recipe: str, sources: Iterable[str]) -> str:
    """``recipe`` (command and options) and a digest of the names, sizes and times of change of ``sources``.

    :raises UserError: a source is missing.
    """
    digest = hashlib.sha256()
    for path in sources:
        try:
            status = os.stat(path)
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror}): replace the file, or remove it with its "
                            "partners") from error
        digest.update(os.fsencode(f"{os.path.basename(path)}/{status.st_size}/{status.st_mtime_ns}/"))
    return f"{recipe} {digest.hexdigest()[:16]}"


def read_note(path: str) -> str | None:
    """The note of a whole PNG that :func:`write_ids` wrote. None for other files."""
    try:
        with open(path, "rb", opener=regular) as file:
            with Image.open(file, formats=["PNG"]) as image:  # reads no further than to the pixels
                note = image.info.get(_KEY)
            file.seek(-len(_PNG_END), os.SEEK_END)
            return note if file.read() == _PNG_END else None
    except (OSError, SyntaxError, ValueError):  # no such file, or none of ours
        return None


def write_ids(ids: np.ndarray, path: str, note: str, orientation: int | None = None) -> None:
    """Write a map [H, W] of ids 0..65535 as a PNG of 8 bits, or of 16 if its type has more.

    :param orientation: tag 2..8 of the map that it was made from, so that it is turned where that is.
    :raises UserError: higher ids, or the file cannot be written.
    """
    if ids.dtype.itemsize > 2:
        if ids.max() >= 2**16:
            raise UserError(f"cannot write {path}: the id {ids.max()} does not fit in a PNG of 16 bits")
        ids = ids.astype(np.uint16)
    info = PngInfo()
    info.add_text(_KEY, note)
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    with atomic_path(path) as temporary:
        Image.fromarray(ids).save(temporary, "PNG", pnginfo=info, **({"exif": exif} if orientation else {}))
