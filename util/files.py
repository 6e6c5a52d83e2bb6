"""Files that are either whole or not there."""
import contextlib
import os
import tempfile
from collections.abc import Iterator

from util.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str, suffix: str | None = None) -> Iterator[str]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without an error.

    :param suffix: of the temporary path; default: that of ``path``.
    :raises UserError: the folder cannot be made or written to.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        suffix = os.path.splitext(path)[1] if suffix is None else suffix
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=suffix)
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); check the folder and its permissions") from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error}); check the disk and permissions") from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_atomically(path: str, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, replacing it as a whole."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def check_writable(path: str) -> None:
    """Find out before the work, instead of after it, that ``path`` cannot be written; nothing is made.

    :raises UserError: it is a folder, or lies where no file can be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)  # it will be made
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: it is a folder, or lies where no file can be written; name another file")
