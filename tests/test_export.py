"""Networks as files for other programs: ``python -m models.export``."""
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from models import export
from models.networks.styles import Styles
from models.synthesis import Synthesizer
from tests.conftest import ROOT, run_command
from tests.worlds import CLASSES, SIZE, build_model, succeed
from util.errors import UserError

pytest.importorskip("onnxscript", reason="needs ONNX: pip install -r requirements-export.txt")
pytest.importorskip("onnxruntime", reason="needs ONNX: pip install -r requirements-export.txt")
# no line of this project, and nothing but these two packages
ELSEWHERE = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
found = session.run(None, dict(numpy.load(sys.argv[2])))
numpy.savez(sys.argv[3], **dict(zip([out.name for out in session.get_outputs()], found)))
assert not {"torch", "models", "data", "util"} & sys.modules.keys()
"""


def elsewhere(path, inputs):
    """What another program gets from an ONNX file."""
    given, made = path.parent / "given.npz", path.parent / "made.npz"
    np.savez(given, **{name: tensor.numpy() for name, tensor in inputs.items()})
    done = subprocess.run([sys.executable, "-I", "-c", ELSEWHERE, path, given, made], cwd=path.parent, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return {name: torch.from_numpy(found) for name, found in np.load(made).items()}


def layouts(size, instances):
    """Maps of single pixels at random, beside blocks: many regions, and instances that touch in all ways."""
    torch.manual_seed(size)
    label = torch.randint(CLASSES, (size, SIZE, SIZE))
    instance = torch.randint(instances, (size, SIZE // 8, SIZE // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    instance[:, ::3, ::5] = torch.randint(instances, instance[:, ::3, ::5].shape)
    return {"label": label, "instance": instance}


def product(synthesizer, inputs):
    """Pictures [B, 3, H, W] of this project."""
    maps = {name: inputs[name][:, None] for name in ("label", "instance")}
    return synthesizer.images(synthesizer.prepare(maps), Styles(inputs.get("z"), inputs.get("noise")))


def saved(root, *args):
    """A run's folder."""
    model = build_model("--checkpoints_dir", root, "--name", "exp", *args)
    model.save("latest")
    model.opt.save()
    return root / "exp"


def main(monkeypatch, capsys, *args):
    """The last line of a command that ends with status 2."""
    monkeypatch.setattr(sys, "argv", ["export", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        export.main()
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with generator.onnx and encoder.onnx, and this project's synthesizer: of averaged networks."""
    root = tmp_path_factory.mktemp("written")
    folder = saved(root, "--use_vae", "--styles", "encoder")
    for label in "G", "IE":
        (folder / f"latest_net_{label}.pth").rename(folder / f"latest_net_{label}_ema.pth")
    said = succeed(run_command("-m models.export", "--checkpoints_dir", root, "--name", "exp", "--use_ema",
                               "--out", root / "new" / "generator.onnx", timeout=1200)).stdout
    assert re.search(r"generator\.onnx: [\d.]+ MiB; largest difference on 5 made-up layouts: \d\.\de-0[5-9]$", said)
    synthesizer = Synthesizer.load(str(folder), use_ema=True)
    assert export.export(synthesizer, str(root / "new" / "encoder.onnx"), encoder=True) < 1e-4
    return root / "new", synthesizer


def test_the_generator_in_another_program(written):
    folder, synthesizer = written
    for size, instances in ((1, 1), (1, 9), (3, 30)):
        inputs = layouts(size, instances) | {"z": torch.randn(size, 256), "noise": torch.randn(size, instances, 2, 64)}
        found, right = elsewhere(folder / "generator.onnx", inputs)["picture"], product(synthesizer, inputs)
        assert found.shape == (size, 3, SIZE, SIZE)
        assert (found - right).abs().max() < 1e-4 < right.std(), (size, instances)
    for name, wrong in (("label", CLASSES), ("label", -1), ("instance", instances), ("instance", -1)):
        changed = inputs[name].clone()
        changed[1, 5, 5] = wrong  # which must not be read as what belongs to another id
        with pytest.raises(AssertionError, match=r"out of|bounds"):
            elsewhere(folder / "generator.onnx", inputs | {name: changed})


def test_the_encoder_in_another_program(written):
    folder, synthesizer = written
    for size, instances in ((1, 1), (3, 12)):
        inputs = {**layouts(size, instances), "photo": torch.rand(size, 3, SIZE, SIZE) * 2 - 1}
        inputs["instance"][inputs["instance"] == 4] = 5  # an id that no pixel has
        label = inputs.pop("label")
        found = elsewhere(folder / "encoder.onnx", inputs)
        right = synthesizer.posterior(synthesizer.prepare(
            {"label": label[:, None], "instance": inputs["instance"][:, None], "image": inputs["photo"]}))
        for name in ("mu", "logvar"):
            assert found[name].shape == (size, instances, 2, 64)
            assert (found[name] - getattr(right, name)).abs().max() < 1e-5 < getattr(right, name).std()
    inputs["instance"][0, 0, 0] = -1
    with pytest.raises(AssertionError, match=r"out of|bounds"):
        elsewhere(folder / "encoder.onnx", inputs)


def test_the_lines_of_the_document(written):
    folder, synthesizer = written
    text = (ROOT / "docs" / "styles.md").read_text()
    lines, = re.findall(r"```python\n(import numpy, onnxruntime\n.*?)```", text, re.DOTALL)
    maps = layouts(1, 6)
    photo = torch.randint(256, (SIZE, SIZE, 3), dtype=torch.uint8).numpy()
    for name, pixels in (("label", maps["label"][0]), ("instances", maps["instance"][0]), ("photo", photo)):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / f"{name}.png")
    code = f"import numpy; numpy.random.seed(3)\n{lines}\nnumpy.save('noise.npy', noise)"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    random = np.random.RandomState(3)
    batch = synthesizer.layout(*(np.asarray(maps[name][0], np.uint8) for name in ("label", "instance")), photo)
    styles = Styles(*(torch.from_numpy(random.randn(1, *shape)).float() for shape in ((256,), (6, 2, 64))))
    made = np.asarray(Image.open(folder / "picture.png")).astype(int)
    assert np.abs(made - synthesizer.pictures(batch, styles)[0]).max() <= 1 and made.std() > 10
    right = synthesizer.encode_styles(batch, styles).noise
    assert np.abs(np.load(folder / "noise.npy") - right.numpy()).max() < 1e-5


def test_spade_for_pytorch_alone(tmp_path):
    synthesizer = Synthesizer(build_model("--norm_mode", "spade"))
    export.export(synthesizer, str(tmp_path / "spade.pt2"))
    inputs = layouts(3, 4)
    torch.save(list(inputs.values()), tmp_path / "inputs.pt")
    code = "import torch; run = torch.export.load('spade.pt2').module(); torch.save(run(*torch.load('inputs.pt')), 'o')"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found, = torch.load(tmp_path / "o")
    assert (found - product(synthesizer, inputs)).abs().max() < 1e-4 < found.std()
    inputs["label"][0, 0, 0] = CLASSES  # which is not the channel of the edges
    with pytest.raises(RuntimeError, match="out of bounds"):
        torch.export.load(tmp_path / "spade.pt2").module()(*inputs.values())


def test_what_differs_is_not_kept(tmp_path, monkeypatch):
    synthesizer = Synthesizer(build_model("--norm_mode", "spade", "--use_vae"))
    path, write = tmp_path / "encoder.pt2", export.Exported.write
    assert export.export(synthesizer, str(path), encoder=True) < 1e-4
    before = path.read_bytes()

    def with_an_error(exported, temporary):
        exported.network.fc_mu.bias += 0.1
        write(exported, temporary)

    monkeypatch.setattr(export.Exported, "write", with_an_error)
    with pytest.raises(UserError, match=r"encoder\.pt2: what was written differs .* by \d\.\de-0[12] and was not kept"):
        export.export(synthesizer, str(path), encoder=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["encoder.pt2"] and path.read_bytes() == before


def test_what_cannot_be_written(tmp_path, monkeypatch, capsys):
    saved(tmp_path, "--norm_mode", "spade")
    known = ["--checkpoints_dir", tmp_path, "--name", "exp", "--out"]
    (tmp_path / "folder.onnx").mkdir()
    for args, expected in (
            ([*known, "model.jpg"], "--out model.jpg: the format goes by the ending; name a file that ends with .onnx"),
            ([*known, tmp_path / "folder.onnx"], "cannot write .*folder.onnx: it is a folder"),
            ([*known, tmp_path / "exp" / "opt.txt" / "m.onnx"], "cannot write .*: it is a folder or a device"),
            ([*known, "m.onnx", "--use_amp"], "--use_amp: the file is written on the CPU"),
            ([*known, "m.onnx", "--impl", "fast"], "--impl: .*leave it out"),
            ([*known, "m.onnx", "--gpu_ids", "mps"], "--gpu_ids: .*leave it out"),
            ([*known, "m.onnx", "--encoder"], "--encoder: the networks have none"),
            (["--checkpoints_dir", tmp_path, "--name", "nobody", "--out", tmp_path / "m.pt2"],
             r"nobody/latest_net_G\.pth: no such checkpoint")):
        assert re.match(f"error: .*{expected}", main(monkeypatch, capsys, *args)), args
    with monkeypatch.context() as other:  # an older one
        other.setattr(torch.onnx, "export", lambda program: None)
        assert re.match(r"error: PyTorch \d.* could not write the networks \(TypeError: .*input_names", main(
            monkeypatch, capsys, *known, tmp_path / "m.onnx"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(monkeypatch, capsys, *known, tmp_path / "m.onnx").endswith(
        "m.onnx: needs the package onnxscript: pip install -r requirements-export.txt")
    assert not list(tmp_path.glob("m.*"))
