"""Options: every one has a consumer; data-set defaults, what the user gives, the saved file, and refusals."""
import argparse
import ast
import importlib
import re
import sys

import pytest
import torch

from data import DATASETS
from data.transforms import SCALED_SIZE
from metrics.extractors import KINDS
from metrics.inception import FEATURE_DIMS, PRECISIONS
from models.networks.init import INIT_TYPES
from models.networks.loss import GAN_MODES
from models.pix2pix_model import Pix2PixModel, learning_rates
from options import TestOptions, TrainOptions, fid_options
from options.export_options import ExportOptions
from options.groups import COMPATIBILITY
from options.segmentation_options import SegmentationOptions
from tests.conftest import ROOT
from util.errors import UserError

CPU = ["--gpu_ids", "-1"]


def test_data_set_defaults_hold_until_the_user_speaks():
    opt = TrainOptions().parse([*CPU, "--dataset_mode", "cityscapes"])
    assert (opt.label_nc, opt.crop_size, opt.aspect_ratio, opt.num_upsampling_layers) == (35, 512, 2.0, "more")
    opt = TrainOptions().parse([*CPU, "--dataset_mode", "cityscapes", "--crop_size", "256", "--load_size", "256"])
    assert (opt.crop_size, opt.aspect_ratio) == (256, 2.0)
    assert TrainOptions().parse([*CPU, "--dataset_mode", "ade20k"]).load_size == 286
    opt = TestOptions().parse([*CPU, "--dataset_mode", "ade20k"])
    assert (opt.load_size, opt.num_classes, opt.semantic_nc) == (256, 151, 152)
    assert TrainOptions().parse([*CPU, "--dataset_mode", "deepfashion"]).noise_nc == 8


def test_options_are_frozen():
    opt = TrainOptions().parse([*CPU, "--dataset_mode", "celeba"])
    with pytest.raises(AttributeError):
        opt.batchSize = 3
    altered = opt.replace(batchSize=3)
    assert (opt.batchSize, altered.batchSize) == (1, 3)
    with pytest.raises(AttributeError):
        opt.replace(batch_size=3)


@pytest.mark.parametrize(("args", "betas"), [
    ([], (0.0, 0.9)), (["--no_TTUR"], (0.5, 0.999)), (["--no_TTUR", "--beta1", "0.1"], (0.1, 0.999)),
    (["--beta2", "0.99"], (0.0, 0.99)),
], ids=str)
def test_betas(args, betas):
    opt = TrainOptions().parse([*CPU, *args])
    assert (opt.beta1, opt.beta2) == betas


def test_saved_options_come_back_unless_given_anew(tmp_path):
    where = ["--name", "exp", "--checkpoints_dir", str(tmp_path)]
    TrainOptions().parse([
        *CPU, *where, "--dataset_mode", "custom", "--label_dir", "my labels", "--image_dir", "i", "--ngf", "8",
        "--crop_size", "64", "--load_size", "72", "--use_vae", "--seed", "5",
    ]).save()
    with open(tmp_path / "exp" / "opt.txt", "a", encoding="utf-8") as file:
        file.write("a line : that is none\n")
    opt = TrainOptions().parse([*CPU, *where, "--load_from_opt_file", "--ngf", "16", "--no_TTUR"])
    assert (opt.dataset_mode, opt.label_dir, opt.crop_size, opt.load_size, opt.ngf, opt.use_vae, opt.seed) == (
        "custom", "my labels", 64, 72, 16, True, 5)
    assert (opt.beta1, opt.beta2) == (0.5, 0.999)
    test = [*CPU, *where, "--load_from_opt_file"]
    assert [TestOptions().parse([*test, *args]).load_size for args in ([], ["--load_size", "80"])] == [64, 80]
    with pytest.raises(UserError, match=r"opt\.txt"):
        TrainOptions().parse([*CPU, "--name", "other", "--checkpoints_dir", str(tmp_path), "--load_from_opt_file"])


def test_export_does_not_take_from_the_file_what_it_refuses(tmp_path):
    where = ["--name", "exp", "--checkpoints_dir", str(tmp_path)]
    TrainOptions().parse([*CPU, *where, "--dataset_mode", "celeba", "--use_amp", "--impl", "plain", "--ngf=8"]).save()
    opt = ExportOptions().parse([*where, "--load_from_opt_file"])
    assert (opt.ngf, opt.use_amp, opt.impl, opt.gpu_ids) == (8, False, None, "-1")
    with pytest.raises(UserError, match=r"^--use_amp: "):
        ExportOptions().parse([*where, "--load_from_opt_file", "--use_amp"])


@pytest.mark.parametrize("args", [
    ["--niter", "0"], ["--gpu_ids", "x"], ["--gpu_ids", "0,0"], ["--name", "../up"], ["--name", "."],
    ["--label_dir", "labels"], ["--amp_dtype", "bfloat16"],
], ids=" ".join)
def test_what_does_not_go_together_is_named(args):
    with pytest.raises(UserError, match=args[-2]):
        TrainOptions().parse(["--dataset_mode", "celeba", *(CPU if "--gpu_ids" not in args else []), *args])


def test_layouts_without_networks_are_read_as_the_run_did(tmp_path, capsys):
    where = ["--name", "exp", "--checkpoints_dir", str(tmp_path)]
    TrainOptions().parse([*CPU, *where, "--dataset_mode", "custom", "--label_nc", "7", "--crop_size", "64",
                          "--load_size", "72", "--aspect_ratio", "2", "--preprocess_mode", "fixed",
                          "--max_dataset_size", "5"]).save()
    opt = SegmentationOptions().parse([*CPU, *where, "--synthesized", "x"])
    assert (opt.dataset_mode, opt.label_nc, opt.image_size, opt.load_size, opt.preprocess_mode) == (
        "custom", 7, (32, 64), 64, "fixed")
    assert opt.max_dataset_size > 5 and "exp/opt.txt says: --dataset_mode=custom" in capsys.readouterr().out
    assert SegmentationOptions().parse([*CPU, *where, "--synthesized", "x", "--crop_size", "128"]).crop_size == 128
    with pytest.raises(UserError, match=r"^--name .*other/opt\.txt: cannot be read .*; check --name"):
        SegmentationOptions().parse(["--synthesized", "x", "--name", "other"])
    with pytest.raises(UserError, match=r"^unrecognized arguments: --load_from_opt_file"):
        SegmentationOptions().parse(["--synthesized", "x", "--load_from_opt_file"])


def test_half_precision(tmp_path):
    where = ["--name", "exp", "--checkpoints_dir", str(tmp_path), "--dataset_mode", "celeba"]
    with pytest.raises(UserError, match="--amp_dtype float16"):
        TrainOptions().parse([*CPU, *where, "--use_amp", "--amp_dtype", "float16"])
    opt = TrainOptions().parse([*CPU, *where, "--use_amp", "--amp_dtype", "bfloat16", "--tf32", "off"])
    opt.replace(amp_dtype="float16").save()  # of a run on a GPU
    opt = TestOptions().parse([*CPU, *where, "--load_from_opt_file"])
    assert (opt.use_amp, opt.amp_dtype, opt.tf32) == (True, None, "off")


@pytest.mark.parametrize("args", [
    ["--crop_size", "100"], ["--norm_G", "spade3x3"], ["--norm_G", "spectralspadeinstance3x3"],
    ["--num_upsampling_layers", "most", "--ngf", "3"], ["--aspect_ratio", "100"],
], ids=" ".join)
def test_networks_refuse_what_they_cannot_be(args):
    opt = TrainOptions().parse([*CPU, "--dataset_mode", "celeba", "--no_vgg_loss", "--load_size", "512", *args])
    with pytest.raises(UserError, match=args[-2]):
        Pix2PixModel(opt)


@pytest.mark.parametrize("args", [
    ["--dataset_mode"], ["--dataset_mode", "ade"], ["--phase", "foo"], ["--ngf", "wide"], ["--no_such_option"],
    ["--batchSize", "0"], ["--lr", "nan"], ["--lr", "-1"], ["--lr", "inf"], ["--beta1", "1.5"], ["--seed", "-4"],
    ["--init_variance", "-1"], ["--aspect_ratio", "0"], ["--aspect_ratio", "1e-320"],
    ["--crop_size", "1000000000000000000"],
    ["--label_nc", "1000000000"], ["--lambda_feat", "nan"], ["--nThreads", "-1"],
], ids=" ".join)
def test_what_argparse_refuses_is_named(args):
    with pytest.raises(UserError, match=args[0]):
        TrainOptions().parse([*CPU, *args])


def test_extreme_numbers_are_refused_or_fit():
    """Whatever the parser lets through, the options that follow from it can be computed."""
    for action in TrainOptions().parser_for([])._actions:
        for text in ("1e-320", "1e308", "1", "-1e308", str(2**63), "0") if action.type else ():
            try:
                opt = TrainOptions().parse([*CPU, "--dataset_mode", "celeba", f"{action.option_strings[0]}={text}"])
            except UserError:
                continue
            assert all(0 <= side < 2**40 for side in opt.image_size), (action.dest, text)
            learning_rates(opt, opt.lr)


@pytest.mark.parametrize("args", [["--how_many", "x"], ["--how_many", "0"], ["--lr", "0.1"]], ids=" ".join)
def test_what_test_refuses_is_named(args):
    with pytest.raises(UserError, match=args[0]):
        TestOptions().parse([*CPU, *args])


@pytest.mark.parametrize(("args", "near"), [
    (["--batchsize", "4"], "--batchSize"), (["--batch_size=4"], "--batchSize"), (["--no_vgg"], "--no_vgg_loss"),
    (["--gpu", "0"], "--gpu_ids"), (["--labelnc", "9", "--ngff", "8"], "--label_nc"), (["--colour", "9"], ""),
    (["9"], ""),
], ids=" ".join)
def test_misspelled_options_get_a_suggestion(args, near):
    with pytest.raises(UserError) as error:
        TrainOptions().parse([*CPU, *args])
    said = str(error.value).split(" (see ")[0]
    assert said == f"unrecognized arguments: {' '.join(args)}" + (f"; similar: {near}" if near else "")


def test_suggestions_name_no_option_that_does_nothing():
    with pytest.raises(UserError, match=r"unrecognized arguments: --normD x; similar: --norm_\w") as error:
        TestOptions().parse([*CPU, "--normD", "x"])
    assert "--norm_D" not in str(error.value)


# ---- every option has a consumer

COMMANDS = {"train": "TrainOptions", "test": "TestOptions", "gallery": "GalleryOptions",
            "diversity_score": "DiversityOptions", "segmentation_score": "SegmentationOptions",
            "benchmarks.quality": "QualityOptions", "demo": "DemoOptions",
            "models.export": "ExportOptions"}
# check_data.py takes the options of train.py, and puts them into the command line that it advises


def imported_files(module: str, found: set) -> set:
    """The project's files that a module reaches by its imports, itself included."""
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    if path.exists() and path not in found:
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                imported_files(name, found)
    return found


def read_options(path) -> set[str]:
    """Attributes of options that a file reads: ``opt.x``, ``self.opt.x``, ``self._opt.x``; of ``self`` in options.py;
    and names in tuples of strings, as loops over options have them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            holder = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if holder in ("opt", "_opt", "args", "known") or (holder == "self" and path.name == "options.py"):
                names.add(node.attr)
        elif isinstance(node, ast.Tuple):
            constants = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            names |= {value for value in constants if isinstance(value, str)}
    return names


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_consumer_and_a_help(command):
    module = importlib.import_module(command)
    read = set().union(*map(read_options, imported_files(command, set())))
    for action in getattr(module, COMMANDS[command])().parser_for([])._actions:
        if action.dest not in ("help", "load_from_opt_file") and action.help != argparse.SUPPRESS:
            assert action.help
            assert action.help.startswith(COMPATIBILITY) or action.dest in read, f"nothing reads --{action.dest}"


def test_choices_are_what_there_is():
    """Options lie below what they choose from, and so name the choices themselves."""
    choices = {action.dest: set(action.choices) for action in TrainOptions().parser_for([])._actions if action.choices}
    assert choices["gan_mode"] == GAN_MODES.keys() and choices["init_type"] == INIT_TYPES.keys()
    assert choices["eval_dims"] == set(FEATURE_DIMS) and choices["eval_precision"] == PRECISIONS.keys()
    assert choices["preprocess_mode"] == SCALED_SIZE.keys() and choices["dataset_mode"] == DATASETS.keys()


@pytest.mark.parametrize(("option", "values"), [
    ("--extractor", KINDS), ("--dims", FEATURE_DIMS), ("--precision", PRECISIONS)])
def test_choices_of_fid_score_are_what_there_is(monkeypatch, option, values):
    monkeypatch.setattr(sys, "argv", ["fid_score.py", "real", "fake", option, "0"])
    with pytest.raises(UserError, match=r"choose from (.*)\) \(") as refused:
        fid_options.parse("")
    named = re.search(r"choose from (.*?)\)", str(refused.value))[1]
    assert set(re.findall(r"\w+", named)) == set(map(str, values))


def test_published_command_lines_are_accepted(capsys):
    opt = TestOptions().parse([*CPU, "--dataset_mode", "celeba", "--train_eval", "--eval_dims", "64",
                               "--eval_epoch_freq", "5", "--nef", "16", "--norm_D", "spectralinstance",
                               "--netG", "spade", "--no_flip", "--no_pairing_check", "--cache_filelist_write",
                               "--cache_filelist_read"])
    assert opt.dataset_mode == "celeba"
    with pytest.raises(SystemExit):
        TestOptions().parse(["--help"])
    shown = capsys.readouterr().out
    assert "--eval_dims" not in shown and "--lambda_feat" not in shown and "--how_many" in shown


@pytest.mark.parametrize(("processes", "gpu_ids", "device"), [(2, "0", "cuda"), (None, "0,1", "cuda"), (1, "0", "cpu")])
def test_graphs_are_for_one_process_on_cuda(processes, gpu_ids, device, monkeypatch):
    monkeypatch.setattr("util.device.find_device", lambda *_: torch.device(device))
    args = ["--gpu_ids", gpu_ids, "--batchSize", "2", "--cuda_graphs"]
    if processes:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="--cuda_graphs: works on CUDA devices only, and in training with one process"):
        TrainOptions().parse(args)
    monkeypatch.setattr("util.device.find_device", lambda *_: torch.device("cuda"))
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert TrainOptions().parse(["--gpu_ids", "0", "--cuda_graphs"]).cuda_graphs
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert TestOptions().parse(["--gpu_ids", "0", "--cuda_graphs"]).cuda_graphs
