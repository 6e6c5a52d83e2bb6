"""Argument parsing whose errors are UserErrors, and types of numbers that name their range."""
import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from util.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with errors as :class:`~util.errors.UserError`; options cannot be abbreviated, and ``~/`` at the
    beginning of a value is the user's folder.

    ``source`` may name the file that the arguments come from.
    """

    source = ""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        if bad := next((arg for arg in args if "\0" in arg), None):  # no path has them: the system would refuse it
            self.error(f"{bad!r}: contains a NUL byte; remove it")
        # the shell does this at the beginning of a word alone, not in --option=~/folder
        args = [arg if not (match := re.fullmatch(r"(--\w+=)?(~(?:/.*)?)", arg, re.DOTALL)) else
                (match[1] or "") + os.path.expanduser(match[2]) for arg in args]
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            wrong = next((arg for arg in unknown if arg.startswith("-")), "")
            near = self._near(wrong.split("=")[0])
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; similar: {near}" if near else ""))
        return found

    def _near(self, option: str) -> str:
        """The options that are spelled like one that does not exist; those that only the help leaves out are not
        named."""
        def plain(name: str) -> str:
            return name.replace("-", "").replace("_", "").casefold()

        known = {plain(name): name for action in self._actions if action.help != argparse.SUPPRESS
                 for name in action.option_strings if name.startswith("--")}
        word = plain(option)
        near = difflib.get_close_matches(word, known, 3, 0.7) or [name for name in known if word and word in name][:3]
        return ", ".join(map(known.get, near))

    def error(self, message: str) -> NoReturn:
        if self.source:
            raise UserError(f"{self.source}: {message}; fix that line of the file")
        raise UserError(f"{message} (see {self.prog} --help)")


def integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """The type of a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{text} is too small: it must be at least {least}")
        if number > most:
            raise argparse.ArgumentTypeError(f"{text} is too large: it must be at most {most}")
        return number

    return parse


def number(least: float, below: float = math.inf, *, exclusive: bool = False) -> Callable[[str], float]:
    """The type of a finite number from ``least`` (above it with ``exclusive``) to less than ``below``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (least < value if exclusive else least <= value) or not value < below:
            start = f"above {least:g}" if exclusive else f"{least:g} or more"
            end = "" if math.isinf(below) else f" and below {below:g}"
            raise argparse.ArgumentTypeError(f"{text}: it must be a number {start}{end}")
        return value

    return parse


def count(text: str) -> float:
    """The type of a number of things that may be ``inf``: all of them."""
    return math.inf if text == "inf" else integer(1)(text)
