"""The README's commands, one after the other as it has them, on data and networks of a reduced size."""
import re
import shlex
import shutil
import subprocess

import pytest
import torch
from torch import nn

from benchmarks.pictures import PicturesOptions
from metrics.inception import FIDInception
from tests.conftest import ROOT, run_command
from tests.data_helpers import build
from tests.fill import fill_
from tests.worlds import succeed

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
SIZE = ["--crop_size", 128, "--load_size", 128]
NETWORK = [*SIZE, "--gpu_ids", -1, "--ngf", 2, "--seed", 0]
FID = ["--dims", 64, "--gpu=-1", "--inception_weights", "inception.pth"]
# options after those of the README, which they replace: command -> more words
SMALLER: dict[str, list[object]] = {
    "make_instances.py": ["--workers", 1],
    "check_data.py": [*SIZE, "--no_vgg_loss", "--workers", 1],
    "-m datasets.make_scenes": ["--num", 2, "--workers", 1],
    "train.py": [*NETWORK, "--ndf", 2, "--no_vgg_loss", "--niter", 1, "--batchSize", 2],
    "test.py": NETWORK,
    "gallery.py": [*NETWORK, "--layouts", 2, "--samples", 2, "--measured", 2],
    "fid_score.py": FID,
    "diversity_score.py": [*NETWORK, "--distance", "rgb", "--num_samples", 2, "--region_samples", 2],
    "segmentation_score.py": ["--gpu_ids", -1, "--segmenter", "network.pt"],
}
ELSEWHERE = {"python3 -m venv .venv": "test_install.py", ". .venv/bin/activate": "test_install.py",
             "python -m tests.interruptions": "test_runs.py", "torchrun": "test_distributed.py"}  # tests that have them


def command_lines() -> list[str]:
    """The lines that the README sets as commands."""
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line) for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]
    return [line for line in lines if re.match(r"(python3?|make|pip|torchrun|\.) ", line)]


@pytest.fixture
def folder(tmp_path):
    """Where the commands run: a small Cityscapes called DATA, two folders of pictures, weights and statistics."""
    for split in "train", "val":
        for *_, instance in build(tmp_path / "DATA", "cityscapes", split, height=64, width=128):
            instance.rename(instance.with_name(instance.name.replace("ReIds", "Ids")))  # as the data set has them
    torch.save(fill_(FIDInception(64), "inception.", gain=1.7).state_dict(), tmp_path / "inception.pth")
    torch.jit.trace(nn.Conv2d(3, 35, 1), torch.zeros(1, 3, 64, 128)).save(str(tmp_path / "network.pt"))
    (tmp_path / "REAL").symlink_to(tmp_path / "DATA" / "leftImg8bit" / "val")
    (tmp_path / "FAKE").symlink_to(tmp_path / "results" / "EXP" / "test_latest" / "images" / "synthesized_image")
    succeed(run_command("fid_score.py", "REAL", "--save_np_name", tmp_path / "cityscapes.npz", "--resize_size", 256,
                        *FID, cwd=tmp_path))
    return tmp_path


def test_the_commands_of_the_readme(folder, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "")  # those of the make that runs the tests
    run = set()
    for line in command_lines():
        words = shlex.split(line)
        if any(line.startswith(start) and (ROOT / "tests" / test).exists() for start, test in ELSEWHERE.items()):
            continue
        if words[0] == "pip":
            assert (ROOT / words[words.index("-r") + 1]).exists()
        elif words[0] == "make":
            if shutil.which("make"):
                subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        else:
            command, rest = words[1], words[2:]
            if command == "-m":
                command, rest = f"-m {words[2]}", words[3:]
            more = SMALLER[command] + (["--load_np_name", "cityscapes.npz"] if "--load_np_name" in rest else [])
            if command == "-m datasets.make_scenes":  # runs where the modules are
                succeed(run_command(command, *rest, *more, "--out", folder / "scenes", cwd=ROOT))
            else:
                succeed(run_command(command, *rest, *more, cwd=folder))
            run.add(command)
    assert run == SMALLER.keys()  # none of these has gone from the README
    for page in "results/EXP/test_latest", "checkpoints/EXP/web", "gallery":
        assert (folder / page / "index.html").exists()


def test_make_pictures_makes_all_that_are_shown(tmp_path):
    shown = {name for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
             for name in re.findall(r"\((?:docs/)?(\w+\.jpg)\)", path.read_text())}
    assert shown == {path.name for path in (ROOT / "docs").glob("*.jpg")}
    for name in ("venv/.made", "venv/.installed", "venv/.installed-dev", "photos/ccp/classes.txt",
                 "quickstart/gallery/gallery.png", "faces/data/test/labels/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    folders = [f"{key}={tmp_path / name}" for key, name in (("VENV", "venv"), ("PHOTOS", "photos"), ("FACES", "faces"),
                                                            ("OUT", "quickstart"))]
    made = subprocess.run(["make", "-n", "-o", f"{tmp_path}/venv/.installed-dev", "pictures", *folders], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    assert set(re.findall(r"docs/(\w+\.jpg)", made)) == shown
    asked = [shlex.split(line)[3:] for line in made.splitlines() if " -m benchmarks.pictures " in line]
    opts = [PicturesOptions().parse(words, device=False) for words in asked]
    assert [opt.out for opt in opts] == ["docs/faces.jpg", "docs/failures.jpg", "docs/people.jpg"]
