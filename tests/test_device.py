"""Another device than the CPU, where there is none: tables that are made beforehand, and steps that never wait.

Tensors on PyTorch's device "meta" have shapes and no numbers. Whatever would make the host wait for a GPU fails there:
numbers that are asked for, shapes that depend on numbers, copies to the CPU. A step that runs has no waits.
"""
import contextlib
import multiprocessing.reduction as reduction
import pickle
import types

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data import create_dataloader
from models.batches import Batch, BatchMaker, load_batches, num_instances
from models.networks.layout import Layout, Needs, Part
from models.ops import backend
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from options import TestOptions, TrainOptions
from options.options import MOST_WORKERS
from tests.fill import fill_
from tests.worlds import CLASSES, SIZE, TRAIN, draw_world
from trainers.pix2pix_trainer import Pix2PixTrainer
from trainers.run import Run
from util.device import use_device

META = torch.device("meta")
# 2.4 cannot, 2.11 can; those between were not tried
simulated = pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11),
                               reason="older versions of PyTorch ask for a driver, or lack torch.meta")
BATCH = 2
SMALL = ["--z_dim", 8, "--noise_nc", 4, "--ndf", 4, "--no_html"]
MODES = {
    "inade": (),
    "inade, encoder": ("--use_vae",),
    "inade, everything else": ("--use_vae", "--no_instance", "--no_ganFeat_loss", "--gan_mode", "original",
                               "--norm_D", "none", "--num_D", 1, "--checkpoint_activations", "--ema", 10),
    "inade, more upsampling": ("--use_vae", "--crop_size", 64, "--load_size", 64, "--num_upsampling_layers", "more"),
    "inade, projected": ("--use_vae", "--netD", "projected", "--mix_prior", "--lambda_color", 0.5),
    "spade": ("--norm_mode", "spade"),
    "spade, encoder": ("--norm_mode", "spade", "--use_vae"),
    "spade, instance norm": ("--norm_mode", "spade", "--norm_G", "spectralspadeinstance3x3", "--crop_size", 64,
                             "--load_size", 64),
}


def options(*args, device: torch.device = META):
    return TrainOptions().parse([str(arg) for arg in (*TRAIN, *SMALL, *args)]).replace(device=device)


def data_of(size: int = SIZE, dtype: torch.dtype = torch.float32) -> dict:
    """As the loader gives it; the second sample lacks most instances and classes."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 9, (BATCH, 1, 4, 4), generator=generator)
    blocks[1] = blocks[1] // 7 * 5
    blocks = blocks.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    image = torch.rand(BATCH, 3, size, size, generator=generator).to(dtype) * 2 - 1
    return {"label": (blocks % CLASSES).byte(), "instance": blocks.int(), "image": image, "path": ["a", "b"]}


class NoBlockingCopies(TorchDispatchMode):
    """Fails where tensors of the CPU and of the device meet, except in a copy that the host does not wait for. Numbers
    (tensors without dimensions) go along with a launch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        places = {tensor.device.type for tensor in tensors if tensor.dim()}
        if kwargs.get("device") is not None and func.overloadpacket.__name__ == "_to_copy":
            places.add(torch.device(kwargs["device"]).type)
        assert len(places) < 2 or kwargs.get("non_blocking"), f"{func} waits for a copy"
        return func(*args, **kwargs)


@pytest.fixture
def on_meta(monkeypatch):
    """Lets training run on the device "meta", which neither fused optimisers nor autocast know."""
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, lr, **_: torch.optim.SGD(groups, lr))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


# ---- no waits

@simulated
@pytest.mark.parametrize("mode", MODES)
def test_nothing_waits_for_the_device(mode, on_meta):
    opt = options(*MODES[mode])
    trainer = Pix2PixTrainer(opt)
    data = BatchMaker.of(opt).tabulated(data_of(opt.crop_size))
    with NoBlockingCopies():
        for _ in range(2):
            batch = trainer.prepare(data)
            trainer.run_generator_one_step(batch)
            trainer.run_discriminator_one_step(batch)
        model = trainer.model.eval()
        for picture in (model.sample(batch), model.infer(batch), trainer.get_latest_generated()):
            assert picture.shape == (BATCH, 3, *opt.image_size) and picture.device == META
    assert all(loss.device == META and loss.dim() == 0 for loss in trainer.get_latest_losses().values())


@pytest.mark.parametrize("mode", ["inade, encoder", "spade"])
def test_styles_and_pictures_of_the_python_interface(mode, on_meta):
    """Of layouts without tables: they are made then."""
    opt = options(*MODES[mode])
    synthesizer = Synthesizer(Pix2PixModel(opt))
    with NoBlockingCopies():
        batch = synthesizer.prepare(data_of())
        styles = synthesizer.draw_styles(batch, seeds=[1, 2])
        assert synthesizer.images(batch, styles).device == META


def test_a_run_waits_for_nothing_but_what_it_writes(on_meta, tmp_path):
    """Between lines of the log, with a worker that makes the tables."""
    far = 10**6
    opt = options("--use_vae", "--nThreads", 1, "--dataroot", draw_world(tmp_path), "--print_freq", far,
                  "--display_freq", far, "--save_latest_freq", far, "--ema", 10)
    loader = load_batches(opt)
    run = Run(opt, Pix2PixTrainer(opt), loader, None, types.SimpleNamespace(signum=None))
    with NoBlockingCopies():
        run.train_epoch()
    assert run.trainer.epoch_iter == 6
    loader.close()


@simulated
@pytest.mark.parametrize("amp", [None, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_pictures_obey_the_rules_of_cuda(mode, amp, monkeypatch):
    """Devices and types of every operation of synthesis, as PyTorch simulates them; that knows no backward pass."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)  # cannot exchange simulated parameters
    monkeypatch.setattr(backend, "working_kernels", lambda device: frozenset())  # nothing can be tried out
    opt = options(*MODES[mode], device=torch.device("cuda", 0)).replace(isTrain=False)
    data = BatchMaker.of(opt).tabulated(data_of(opt.crop_size))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cuda", amp, enabled=amp is not None):
        with opt.device:
            model = Pix2PixModel(opt)
        batch = model.prepare(data)
        for picture in (model.infer(batch), model.sample(batch)):
            assert picture.device.type == "cuda" and picture.dtype == torch.float32
            assert picture.shape == (BATCH, 3, *opt.image_size)


# ---- the same numbers

@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("mode", MODES)
def test_tables_change_no_losses_and_gradients(mode, float64):
    """Of the loader's tables, with the rows that nothing uses, against what is made when asked for: on the CPU."""
    opt = options(*MODES[mode], device=torch.device("cpu"))
    data = data_of(opt.crop_size, torch.float64)
    tabulated = BatchMaker.of(opt.replace(device=META)).tabulated(data)
    assert num_instances(tabulated) == num_instances(data)
    results = []
    for given in (data, tabulated):
        model = fill_(Pix2PixModel(opt), "")
        torch.manual_seed(0)
        batch = model.prepare(given, Part(num_instances=12))  # of which three are elsewhere
        losses, picture = model.generator_losses(batch)
        losses = {name: loss.value for name, loss in losses.items()}
        sum(losses.values()).backward()
        others = {name: loss.value for name, loss in model.discriminator_losses(batch).items()}
        sum(others.values()).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append({"picture": picture, **losses, **others, **gradients})
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


def layout_of(data: dict) -> Layout:
    return Layout(data["label"], data["instance"], CLASSES, with_edges=True)


def test_tables_travel_as_one_tensor():
    """Through a pipe between processes, and to a device."""
    opt = options("--use_vae")
    data = data_of()
    packed = BatchMaker.of(opt).tabulated(data)["layout"]
    assert packed.numbers.dtype == torch.int32
    assert packed.to(META).numbers.device == META
    copied = pickle.loads(reduction.ForkingPickler.dumps(packed))
    for moved in (packed, packed.to(torch.device("cpu")), copied, pickle.loads(pickle.dumps(packed))):
        check_tables(moved.unpack(), layout_of(data), moved.numbers)


def check_tables(layout: Layout, lazy: Layout, numbers: Tensor) -> None:
    """All that networks ask for is there, on the one tensor, and equals what is made when it is asked for."""
    assert layout.label.untyped_storage().data_ptr() == numbers.untyped_storage().data_ptr()
    assert layout.label.equal(lazy.label.int()) and layout.instance.equal(lazy.instance.int())
    assert layout.num_instances == lazy.num_instances and layout.size == lazy.size
    assert layout.semantics.equal(lazy.semantics) and layout.halved_classes(2).equal(lazy.halved_classes(2))
    regions, expected = vars(layout)["class_regions"], lazy.class_regions
    count = len(expected.ids[0])
    for ids, expected_ids in zip(regions.ids, expected.ids, strict=True):
        assert len(ids) % Needs().multiple == 0 and ids[:count].equal(expected_ids.int()) and not ids[count:].any()
    rows = torch.rand(BATCH * SIZE * SIZE, 3)
    for side in (1, 2, 4, 8, 16, 32):
        found = regions._maps[side, side]
        assert found.index.equal(expected.at((side, side)).index.int()) and "segments" in vars(found)
        sums, expected_sums = (maps.sum(rows[:BATCH * side**2]) for maps in (found, expected.at((side, side))))
        assert sums[:count].equal(expected_sums) and not sums[count:].any()
    instances, expected = vars(layout)["instance_regions"], lazy.instance_regions
    sample, instance = instances.ids
    assert len(sample) == BATCH * layout.num_instances
    for side in (2, 4, 8, 16, 32):
        index = instances._maps[side, side].index.long()
        expected_index = expected.at((side, side)).index
        assert sample[index].equal(expected.ids[0][expected_index].int())
        assert instance[index].equal(expected.ids[1][expected_index].int())
    full = instances._maps[SIZE, SIZE]
    assert full.sizes[sample * layout.num_instances + instance].sum() == BATCH * SIZE**2 and "segments" in vars(full)


def test_evaluation_needs_fewer_tables_and_spade_none():
    data, training = data_of(), options()
    packed = {name: BatchMaker.of(opt).tabulated(data)["layout"]
              for name, opt in {"training": training, "evaluation": training.for_evaluation(),
                                "spade": options("--norm_mode", "spade")}.items()}
    evaluated = packed["evaluation"].unpack()
    assert not any("segments" in vars(maps) for maps in evaluated.class_regions._maps.values())
    assert "instance_regions" not in vars(evaluated) and "class_regions" not in vars(packed["spade"].unpack())
    assert packed["training"].numbers.numel() > packed["evaluation"].numbers.numel() > packed["spade"].numbers.numel()


def test_parts_and_other_maps_of_a_layout():
    opt = options("--use_vae")
    batch = BatchMaker.of(opt).batch(data_of())
    layout = BatchMaker.of(opt).tabulated(data_of())["layout"].unpack()
    part = layout.as_part(Part(1, 2, num_instances=30))
    assert part.num_instances == 30 and layout.num_instances < 30
    other = batch.with_maps(layout.label[:1], layout.instance[:1] * 0)
    assert other.layout.num_instances == other.layout.batch_size == 1 and other.packed is not None
    assert "segments" in vars(other.layout.class_regions.at((4, 4)))
    assert Batch(layout_of(data_of())).with_maps(layout.label, layout.instance).layout.needs is None


def test_bad_ids_are_named_before_they_travel():
    maker = BatchMaker.of(options())
    with pytest.raises(ValueError, match=f"class ids 0..{CLASSES} in labels, but the classes are 0..{CLASSES - 1}"):
        maker.tabulated({**data_of(), "label": torch.full((1, 1, SIZE, SIZE), CLASSES).tril()})
    with pytest.raises(ValueError, match="instance id -1, but ids start at 0"):
        maker.tabulated({**data_of(), "instance": torch.full((BATCH, 1, SIZE, SIZE), -1)})


# ---- the loader

@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_makes_the_tables(workers, tmp_path):
    opt = options("--use_vae", "--nThreads", workers, "--dataroot", draw_world(tmp_path))
    plain, ready = (create_dataloader(opt), load_batches(opt))
    for data, finished in zip(plain, ready, strict=True):
        assert finished["label"].equal(data["label"]) and finished["path"] == data["path"]
        check_tables(finished["layout"].unpack(), layout_of(data), finished["layout"].numbers)
    plain.close()
    ready.close()


@pytest.mark.parametrize(("search", "deterministic"), [(False, False), (True, False), (True, True)])
def test_cudnn_searches_where_shapes_repeat_and_rounding_may_differ(search, deterministic, monkeypatch):
    for thing, name in ((torch.cuda, "set_device"), (torch, "use_deterministic_algorithms")):
        monkeypatch.setattr(thing, name, lambda *_, **__: None)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, name, not search)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    use_device(torch.device("cuda", 0), deterministic=deterministic, search=search)
    assert torch.backends.cudnn.benchmark == (search and not deterministic)


def test_a_gpu_gets_workers_unless_the_user_speaks(monkeypatch):
    monkeypatch.setattr("options.options.available_cores", lambda: 12)
    cuda = torch.device("cuda", 0)
    assert options(device=torch.device("cpu")).num_workers == 0
    assert options(device=cuda).num_workers == MOST_WORKERS
    assert options("--nThreads", 0, device=cuda).num_workers == 0
    assert options("--nThreads", 3, device=torch.device("cpu")).num_workers == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert options(device=cuda).num_workers == 3
    assert TestOptions().parse(["--gpu_ids", "-1"]).num_workers == 0
