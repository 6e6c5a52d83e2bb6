"""How a command's options are parsed: groups, defaults of the data set, a saved ``opt.txt``, and derived values."""
import argparse
import os
import sys
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from options.dataset_defaults import DATASET_DEFAULTS, dataset_defaults
from options.groups import Architecture, Experiment, Group
from options.options import Options
from util.arguments import ArgumentParser
from util.errors import UserError
from util.files import read_text
from util.launch import launched

# what ``opt.txt`` says and another command decides anew: which run, where results go, and how it goes on
_NOT_FROM_FILE = frozenset({"name", "checkpoints_dir", "load_from_opt_file", "results_dir", "phase", "gpu_ids",
                            "amp_dtype", "impl", "cuda_graphs", "continue_train", "which_epoch", "dataset_mode",
                            "dry_run"})


class CommandOptions:
    """The options of one command; a subclass lists its groups and, in :meth:`add_options`, what it alone has."""

    is_train = False
    not_from_file: ClassVar[frozenset[str]] = frozenset()  # what opt.txt decides for training alone
    one_process = False  # whether it refuses several --gpu_ids, and torchrun
    groups: ClassVar[Sequence[type[Group]]] = ()
    defaults: ClassVar[dict[str, Any]] = {}  # of this command, instead of those of the groups

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options that only this command has."""

    def finish(self, opt: Options, given: set[str]) -> None:
        """Derive values that depend on others; ``given`` are the names that the user set.

        :raises UserError: values that do not go together.
        """

    def reads_photos(self, opt: Options) -> bool:
        """Whether what has an encoder looks at the photos of all layouts."""
        return True

    def needs_layouts(self, opt: Options) -> bool:
        """Whether the command can do nothing without label maps."""
        return True

    def parser_for(self, args: Sequence[str]) -> argparse.ArgumentParser:
        """The parser with the defaults of the data set that ``args`` choose."""
        parser = ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for group in self.groups:
            group.add(parser.add_argument_group(group.title).add_argument, self.is_train)
        self.add_options(parser)
        choice = ArgumentParser(add_help=False)
        choice.add_argument("--dataset_mode", default=parser.get_default("dataset_mode"))
        mode = choice.parse_known_args(args)[0].dataset_mode
        if mode in DATASET_DEFAULTS:  # an unknown one is refused by the parser itself
            known = {action.dest for action in parser._actions}
            parser.set_defaults(**{name: value for name, value in dataset_defaults(mode, self.is_train).items()
                                   if name in known})
        parser.set_defaults(**self.defaults)
        return parser

    def parse(self, args: Sequence[str] | None = None, device: bool = True) -> Options:
        """Parse ``args`` (default: the command line) into frozen options.

        :param device: False leaves out what depends on the device, and does not import PyTorch.
        :raises UserError: unknown options, values that are not allowed or do not go together, or a device that does not
            exist.
        """
        args = self.arguments(list(sys.argv[1:] if args is None else args))
        parser = self.parser_for(args)
        given = given_names(parser, args)
        opt = parser.parse_args(args, Options())
        opt.isTrain = self.is_train
        if self.one_process and (processes := launched() or opt.num_processes) > 1:
            raise UserError(f"--gpu_ids {opt.gpu_ids}, {processes} processes: this command runs in one process; name "
                            "one device, and do not use torchrun")
        for group in self.groups:
            group.finish(opt, given)
        self.finish(opt, given)
        for group in self.groups if device else ():
            group.place(opt, given)
        opt.needs_photos = opt.isTrain or (opt.use_vae and self.reads_photos(opt))
        return opt.freeze({action.dest: action.default for action in parser._actions})

    def arguments(self, args: list[str]) -> list[str]:
        """``args`` with those of files that they name before them, so that they have the last word."""
        wanted = "--load_from_opt_file" in args and Experiment in self.groups
        return self._saved_arguments(args) + args if wanted else args

    def opt_file(self, args: Sequence[str]) -> str:
        """Where the ``opt.txt`` of the run that ``args`` name lies."""
        known = self.parser_for(args).parse_known_args(args)[0]
        return os.path.join(known.checkpoints_dir, known.name, "opt.txt")

    def _saved_arguments(self, args: list[str], names: Collection[str] | None = None) -> list[str]:
        """Arguments for what a run's ``opt.txt`` says: of the networks all, of the rest what differs from its default.
        The file is text, and nothing in it runs.

        :param names: of the options to be taken, besides --dataset_mode; None takes all that another command may take.
        """
        path = self.opt_file(args)
        option = "--load_from_opt_file" if "--load_from_opt_file" in args else "--name"
        lines = read_text(path, option, "check --name").splitlines()
        architecture, known = names_of([Architecture]), names_of(self.groups) - _NOT_FROM_FILE - self.not_from_file
        known = known if names is None else known.intersection(names)
        values, mode = {}, []
        for line in lines:
            name, _, rest = line.strip().partition(": ")
            value, changed, _ = rest.partition("\t[default: ")
            if name == "dataset_mode":
                mode = [f"--dataset_mode={value.strip()}"]
            elif name in known and (changed or name in architecture):
                values[name] = value.strip()
        arguments, parser = list(mode), self.parser_for(mode + args)
        for action in parser._actions:
            value = values.get(action.dest)
            if value in (None, "None"):
                continue
            if action.nargs == 0:  # a switch
                arguments += [action.option_strings[0]] if value == "True" else []
            else:
                arguments.append(f"{action.option_strings[0]}={value}")
        parser.source = path  # what is wrong with these is said of the file
        parser.parse_known_args(arguments)
        return arguments


def names_of(groups: Sequence[type[Group]]) -> set[str]:
    """The names of the options of some groups."""
    parser = argparse.ArgumentParser(add_help=False)
    for group in groups:
        group.add(parser.add_argument, is_train=True)
    return {action.dest for action in parser._actions}


def given_names(parser: argparse.ArgumentParser, args: Sequence[str]) -> set[str]:
    """The names of the options that ``args`` give."""
    options = {arg.split("=", 1)[0] for arg in args if arg.startswith("--")}
    return {action.dest for action in parser._actions if options & set(action.option_strings)}
