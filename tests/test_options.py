"""Options: data-set defaults, what the user gives, the saved file, and refusals."""
import pytest

from options import TestOptions, TrainOptions
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
    with pytest.raises(UserError, match=r"opt\.txt"):
        TrainOptions().parse([*CPU, "--name", "other", "--checkpoints_dir", str(tmp_path), "--load_from_opt_file"])


@pytest.mark.parametrize("args", [
    ["--crop_size", "100"], ["--batchSize", "0"], ["--lr", "nan"], ["--lr", "-1"], ["--beta1", "1.5"], ["--niter", "0"],
    ["--seed", "-4"], ["--init_variance", "-1"], ["--aspect_ratio", "0"], ["--aspect_ratio", "2"], ["--gpu_ids", "x"],
    ["--name", "../up"], ["--load_size", "8"], ["--norm_G", "spade3x3"], ["--norm_G", "spectralspadeinstance3x3"],
    ["--num_upsampling_layers", "most", "--ngf", "3"], ["--preprocess_mode", "fixed", "--aspect_ratio", "100"],
], ids=" ".join)
def test_impossible_values_are_named(args):
    with pytest.raises(UserError, match=args[-2]):
        TrainOptions().parse(["--dataset_mode", "celeba", *(CPU if "--gpu_ids" not in args else []), *args])


@pytest.mark.parametrize("args", [
    ["--dataset_mode"], ["--dataset_mode", "ade"], ["--phase", "foo"], ["--ngf", "wide"], ["--how_many", "x"],
    ["--how_many", "0"], ["--no_such_option"],
], ids=" ".join)
def test_argparse_errors_are_one_line(args, capsys):
    with pytest.raises(SystemExit) as error:
        TestOptions().parse([*CPU, *args])
    lines = capsys.readouterr().err.splitlines()
    assert error.value.code == 2 and len(lines) == 1 and args[0] in lines[0]
