"""Files that are either whole or not there."""
import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator

from util.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_TEMPORARY = ".writing-"  # how names of temporary files begin
_LOCK = ".lock"


@contextlib.contextmanager
def atomic_path(path: str, sync: bool = False) -> Iterator[str]:
    """Yield a temporary path beside ``path``, a hidden file with its suffix, that replaces it when the block ends
    without an error.

    :param sync: wait until the disk has it, so that it survives a loss of power.
    :raises UserError: the folder cannot be made or written to, or the disk is full.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if _is_special(path):
        raise UserError(f"cannot write {path}: it is a device or a pipe; name a file")
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=_TEMPORARY, suffix=os.path.splitext(path)[1])
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); check the folder and its permissions") from error
    try:
        with _reported(path):
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            if sync:
                fsync(temporary)
            os.replace(temporary, path)
            if sync:
                fsync(folder)
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Yield a temporary folder beside ``path`` that gets this name when the block ends without an error, and is removed
    if it does not. What a run that was killed has left is removed by the next one.

    :raises UserError: there is something at ``path`` already, another command is making it, or it cannot be made.
    """
    path = os.path.abspath(path)
    temporary = os.path.join(os.path.dirname(path), _TEMPORARY + os.path.basename(path))
    _refuse_existing(path)
    with exclusive(temporary, path):
        _refuse_existing(path)  # another command may just have made it
        with _reported(path):
            for entry in os.scandir(temporary):
                if entry.name != _LOCK:
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.remove(entry.path)
        try:
            yield temporary
            with _reported(path):
                os.rename(temporary, path)
                os.remove(os.path.join(path, _LOCK))  # not before: another command would empty the folder
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; remove it, or choose another folder")


@contextlib.contextmanager
def exclusive(folder: str, name: str = "", remedy: str = "give another folder") -> Iterator[None]:
    """Hold the lock of ``folder``, which is made. The system lets go of it however this process ends.

    :param name: what to call the folder in messages, and ``remedy``, what else to do than to wait.
    :raises UserError: another command holds it, or the folder cannot be written to.
    """
    name, path = name or folder, os.path.join(folder, _LOCK)
    try:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # which commands that are started do not get
    except OSError as error:
        raise UserError(f"{name}: cannot be written ({error.strerror}); check the folder and its permissions"
                        ) from error
    held = [handle]

    def let_go() -> None:  # a process that is forked meanwhile must not hold the lock when this one is gone
        while held:
            os.close(held.pop())

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=let_go)
    try:
        try:
            if fcntl is None:
                raise OSError("no locks")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(name, remedy) from error
        except OSError:
            print(f"{name}: this file system has no locks; make sure that no other command writes there")
        is_ours = False
        with contextlib.suppress(OSError):
            is_ours = os.path.samestat(os.fstat(handle), os.stat(path))
        if not is_ours:  # another command ended, and removed the file, after it was opened here
            raise _taken(name, remedy)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.remove(path)
    finally:
        held.clear()  # the number may become that of another file
        os.close(handle)


def _taken(name: str, remedy: str) -> UserError:
    return UserError(f"{name}: another command is writing to it; wait until that ends, or {remedy}")


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    """What the system refuses in this block becomes a line that names ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error}); check the disk and permissions") from error


def _is_special(path: str) -> bool:
    """A device or pipe: root could replace /dev/null."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def regular(path: str, flags: int) -> int:
    """An ``opener`` for :func:`open` that takes regular files alone: a pipe would be waited for, and a device may have
    no end."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has neither it nor such pipes
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return handle


def fsync(path: str) -> None:
    """Wait until the disk has a file, or the names in a folder (which Windows does not let one ask for)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: str, text: str, sync: bool = False) -> None:
    """Write ``text`` (UTF-8, with escapes for what is none) to ``path``, replacing it as a whole; ``sync`` as for
    :func:`atomic_path`."""
    with atomic_path(path, sync=sync) as temporary, \
            open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def append_line(path: str, line: str) -> None:
    """Add ``line`` to a text file. :raises UserError: it cannot be written."""
    with _reported(path), open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(line + "\n")


def copy_atomically(source: str, path: str) -> None:
    """Let ``path`` be a copy of the file ``source``, on the disk when this returns. (A second name for it would be
    damaged along with it.)"""
    with atomic_path(path, sync=True) as temporary:
        shutil.copyfile(source, temporary)


def names_in(folder: str) -> list[str]:
    """The names in a folder; none if it is not there."""
    return os.listdir(folder) if os.path.isdir(folder) else []


def set_aside(folder: str, names: Iterable[str]) -> str:
    """Move files of a folder, one after the other, to a new subfolder ``earlier_1`` or the like; where that is."""
    number = next(n for n in range(1, 10**6) if not os.path.exists(os.path.join(folder, f"earlier_{n}")))
    target = os.path.join(folder, f"earlier_{number}")
    for name in names:
        os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
        shutil.move(os.path.join(folder, name), os.path.join(target, name))
    return target


def remove_leftovers(folders: Iterable[str]) -> None:
    """Remove the temporary files of runs that were killed while they wrote to ``folders``."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name.startswith(_TEMPORARY):
                    with contextlib.suppress(OSError):  # gone already, or not ours to remove: it does no harm
                        os.remove(entry.path)


def read_text(path: str, option: str = "", remedy: str = "name a text file") -> str:
    """The text of a UTF-8 file.

    :param option: what named the file, for the message; and ``remedy``, what to do.
    :raises UserError: it cannot be read, is no regular file or no text.
    """
    try:
        with open(path, encoding="utf-8", opener=regular) as file:
            return file.read()
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text, or too large"
        raise UserError(f"{option} {path}".lstrip() + f": cannot be read ({reason}); {remedy}") from error


def table_rows(path: str, option: str, remedy: str, most_words: int) -> Iterator[tuple[str, str, list[str]]]:
    """The lines of a text table that say something, without what follows a ``#``: which line it is, in words, the line,
    and its words, the last of which takes the rest. :raises UserError: as :func:`read_text`."""
    for number, line in enumerate(read_text(path, option, remedy).splitlines(), 1):
        if words := line.split("#")[0].strip().split(maxsplit=most_words - 1):
            yield f"{option} {path}, line {number}", line.strip(), words


def check_writable(path: str) -> None:
    """Find out before the work, instead of after it, that ``path`` cannot be written; nothing is made.

    :raises UserError: it is a folder, or lies where no file can be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)  # it will be made
    if _is_special(path) or os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: it is a folder or a device, or no file can be written there; name "
                        "another file")
