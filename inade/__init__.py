"""The project for other programs, under one name: ``from inade import Synthesizer``, after ``pip install -e .``.

Its folders (``models``, ``data``, ...) become importable last of all, in programs that import this one only.
"""
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
for _name in ("models", "data", "options", "util"):
    if Path(find_spec(_name).submodule_search_locations[0]).resolve().parent != ROOT:
        raise ImportError(f"inade needs {ROOT / _name}, but another {_name} comes first on the path: rename that one, "
                          "or import inade in a process of its own")

from models.synthesis import Synthesizer  # noqa: E402

__all__ = ["Synthesizer"]
