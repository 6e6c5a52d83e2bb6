"""Argument parsing whose errors are one line."""
import argparse
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with errors as one line and exit status 2; options cannot be abbreviated."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")
