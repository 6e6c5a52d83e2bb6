"""Help, and what is wrong with a command line, come before PyTorch is imported: here it cannot be."""
import json
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# command -> a mistake in its options besides an unknown one, and what is said of it
MISTAKES = {
    "train.py": ("--dataset_mode custom --dataroot nowhere", "folder nowhere/train_label does not exist"),
    "test.py": ("--name nobody", "checkpoints/nobody: no such checkpoint"),
    "fid_score.py": ("nowhere datasets", "nowhere: not a folder of images"),
    "diversity_score.py": ("--num_samples 1", "1 is too small: it must be at least 2"),
    "segmentation_score.py": ("--dataset_mode custom", "--synthesized is missing"),
    "gallery.py": ("--norm_mode spade", "the gallery changes styles of instances"),
    "check_data.py": ("--batchSize x", "'x' is not a whole number"),
    "make_instances.py": ("--dataset custom --path nowhere", "--path nowhere: no such folder"),
    "demo.py": ("--dataset_mode custom --dataroot nowhere", "folder nowhere/val_label does not exist"),
    "quickstart.py": ("--epochs 0", "0 is too small"),
    "datasets.make_scenes": ("--out x --num 0", "0 is too small"),
    "datasets.prepare_ade20k": ("--path nowhere", "required: --annotations"),
    "datasets.prepare_aligned": ("--path nowhere", "required: --"),
    "datasets.prepare_camvid": ("--path nowhere --out x", "nowhere"),
    "datasets.prepare_ccp": ("--path nowhere --out x", "nowhere"),
    "datasets.prepare_celebamask": ("--path nowhere --out x", "nowhere"),
    "datasets.prepare_coco_stuff": ("--path nowhere", "required: --annotations"),
    "datasets.draw_people": ("", "--out"),
    "datasets.draw_faces": ("", "--out"),
    "models.export": ("--out model.jpg", "the format goes by the ending"),
    "models.fit_prior": ("--norm_mode spade --name scenes", "classes have no styles of their own"),
}
# runs commands one after the other, and prints what each said: [[status, stdout, stderr], ...]
SCRIPT = """
import contextlib, io, json, runpy, sys

for heavy in ("torch", "torchvision", "gradio", "transformers"):
    sys.modules[heavy] = None  # so that importing it fails
sys.path.insert(0, ".")
answers = []
for name, *sys.argv[1:] in json.load(sys.stdin):
    sys.argv[0], status = name, 0
    sys.modules.pop(name, None)  # another command may have imported it
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            (runpy.run_path if name.endswith(".py") else runpy.run_module)(name, run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except ImportError as error:
            status = str(error)
    answers.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, str], tuple[int | str, str, str]]:
    """(command, kind of command line) -> exit status, stdout, stderr."""
    lines = {(name, kind): [name, *words.split()] for name, (mistake, _) in MISTAKES.items()
             for kind, words in (("help", "--help"), ("unknown", "--nonsense"), ("mistake", mistake))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=json.dumps(list(lines.values())), cwd=ROOT,
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", MISTAKES)
def test_commands_answer_before_the_long_imports(answers, command):
    status, out, err = answers[command, "help"]
    assert status == 0 and out.startswith("usage: ") and not err
    for kind, expected in (("unknown", "--"), ("mistake", MISTAKES[command][1])):
        status, out, err = answers[command, kind]
        assert status == 2, (status, out, err)
        assert re.fullmatch(rf"error: .*{re.escape(expected)}.*\n", err), err


def test_every_command_is_tried():
    found = {path.name for path in ROOT.glob("*.py")}
    found |= {f"{folder}.{path.stem}" for folder in ("datasets", "models") for path in (ROOT / folder).glob("*.py")
              if "__main__" in path.read_text()}
    assert found == MISTAKES.keys()
