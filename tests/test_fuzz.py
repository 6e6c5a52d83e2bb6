"""A share of the tries of ``python -m tests.fuzz``."""
from tests.fuzz import COMMANDS, draw, fuzz, make_root


def test_commands_end_well():
    assert not fuzz(range(20), seed=0)


def test_tries_can_be_repeated(tmp_path):
    lines = []
    for name in ("first", "second"):
        make_root(tmp_path / name)
        lines.append([word.replace(str(tmp_path / name), "") for word in draw(7, 0, tmp_path / name)])
    assert lines[0] == lines[1] and any(lines[0][0] in words for words, _ in COMMANDS.values())
