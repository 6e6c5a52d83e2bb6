"""Training steps and synthesis as CUDA graphs against the same as they are, without a GPU.

A simulated graph notes the operations of a function with the tensors that they take and give, and replays by doing them
again in the same memory. It knows nothing of memory that graphs share, and recording runs the function, too: what that
changed is then put back.
"""
import contextlib
import weakref

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.batches import BatchMaker
from models.graphs import Graphs, StepGraphs
from models.ops import backend
from models.pix2pix_model import Pix2PixModel
from models.synthesis import Synthesizer
from tests.test_device import META, data_of, options
from trainers.pix2pix_trainer import Pix2PixTrainer
from util.checkpoints import load_tensors, state_path

CPU = torch.device("cpu")
MODES = {"inade": ("--use_vae",), "spade": ("--norm_mode", "spade"), "parts, scaled gradients": ("--accumulate", 2)}


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Graph(TorchDispatchMode):
    """A simulated ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "what is recorded cannot wait for a number"
        results = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, results))
        return results

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.operations:
            for old, new in zip(tree_leaves(results), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Cuda:
    """What :mod:`models.graphs` uses of ``torch.cuda``.

    :param changed: gives the tensors that functions change.
    """

    CUDAGraph = Graph

    def __init__(self, changed, monkeypatch):
        self.changed, self.pools, self.recorded = changed, [], 0
        for name in ("CUDAGraph", "graph_pool_handle", "graph", "Stream", "current_stream", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def graph_pool_handle(self) -> int:
        self.pools.append(weakref.WeakSet())  # of the graphs that were recorded with it
        return len(self.pools) - 1

    @contextlib.contextmanager
    def graph(self, graph: Graph, pool: int, stream, capture_error_mode: str):
        users = self.pools[pool]
        assert users or not hasattr(users, "used"), "PyTorch refuses a pool whose graphs are all gone"
        users.used = True
        users.add(graph)
        self.recorded += 1
        tensors = list(self.changed())
        before, random = [tensor.detach().clone() for tensor in tensors], torch.get_rng_state()
        with graph:
            yield
        for tensor, value in zip(tensors, before, strict=True):
            tensor.detach().copy_(value)
        torch.set_rng_state(random)

    def Stream(self, *_):
        return self

    current_stream = Stream

    def wait_stream(self, *_) -> None:
        pass

    def stream(self, *_):
        return contextlib.nullcontext()


def trainer_of(opt) -> Pix2PixTrainer:
    torch.manual_seed(0)
    trainer = Pix2PixTrainer(opt)
    trainer.model.double()
    trainer.model.netD.judges_together = True
    if opt.accumulate > 1:
        trainer.scaler_G, trainer.scaler_D = (torch.amp.GradScaler("cpu", 2.0**8, growth_interval=3) for _ in "GD")
    return trainer


def state_of(trainer: Pix2PixTrainer) -> list[Tensor]:
    moments = [value for optimizer in (trainer.optimizer_G, trainer.optimizer_D) for state in optimizer.state.values()
               for value in state.values()]
    scales = [value for scaler in (trainer.scaler_G, trainer.scaler_D) if scaler.is_enabled()
              for value in (scaler._scale, scaler._growth_tracker)]
    return [*trainer.model.state_dict().values(), *moments, *scales]


def layouts(opt) -> list:
    """Eight batches of one form, of different layouts, and one of another form; in parts."""
    def parts(data, shift):
        moved = {name: value.roll(shift, -1) for name, value in data.items() if name != "path"}
        return [BatchMaker.of(opt.replace(device=META)).tabulated(moved)] * opt.accumulate

    data = data_of(dtype=torch.float64)
    other = {**data, "instance": data["instance"] + 64}
    batches = [parts(data, 3 * n) for n in range(8)]
    return [*batches[:5], parts(other, 0), *batches[5:]]


@pytest.fixture
def as_on_cuda(float64, monkeypatch):
    monkeypatch.setattr(backend, "on_host", lambda x: False)


@pytest.mark.parametrize("mode", MODES)
def test_graphs_make_the_same_steps(mode, as_on_cuda, monkeypatch):
    """Also where the discriminator makes more steps than the generator, after the learning rate has changed, with other
    steps in between, for the parts of a batch, and with gradient scalers."""
    opt = options(*MODES[mode], "--D_steps_per_G", 2, "--niter", 0, "--niter_decay", 4, device=CPU)
    batches = layouts(opt.replace(cuda_graphs=True))
    found = []
    for as_graphs in (False, True):
        trainer = trainer_of(opt)
        if as_graphs:
            cuda = Cuda(lambda trainer=trainer: state_of(trainer), monkeypatch)
            trainer.graphs = StepGraphs(CPU, trainer.optimizer_G, trainer.optimizer_D)
        torch.manual_seed(1)
        results = []
        for i, data in enumerate([*batches, *batches[:4]]):
            prepared = [trainer.prepare(part).rounded() for part in data]
            if i % 2 == 0:
                trainer.run_generator_one_step(prepared)
            trainer.run_discriminator_one_step(prepared)
            results.append({**trainer.get_latest_losses(), "picture": trainer.get_latest_generated()})
            if i == 8:
                trainer.update_learning_rate(2)
        found.append((results, state_of(trainer)))
    assert cuda.recorded == 2  # both steps
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("saving", [True, False], ids=["from graphs", "to graphs"])
def test_checkpoints_know_nothing_of_graphs(saving, tmp_path, monkeypatch):
    """A run goes on with graphs or without them; learning rates are saved as numbers."""
    Cuda(list, monkeypatch)
    opt = options("--niter", 1, "--niter_decay", 4, "--checkpoints_dir", tmp_path, device=CPU)
    rates = []
    for n, graphs_here in enumerate((saving, not saving)):
        trainer = Pix2PixTrainer(opt.replace(cuda_graphs=graphs_here, continue_train=n == 1))
        batch = trainer.prepare(BatchMaker.of(opt.replace(device=META)).tabulated(data_of()))
        trainer.run_discriminator_one_step(batch)
        trainer.update_learning_rate(2)
        rate = trainer.optimizer_D.param_groups[0]["lr"]
        assert isinstance(rate, Tensor) == graphs_here
        rates.append(float(rate))
        trainer.epoch, trainer.data_seed, trainer.data_digest = 3, 0, ""
        trainer.save("latest")
        saved = load_tensors(state_path(opt.folder, "latest"))["optimizer_D"]
        assert {type(group["lr"]) for group in saved["param_groups"]} == {float}
        assert {float(state["step"]) for state in saved["state"].values()} == {n + 1}
    assert rates == pytest.approx([opt.lr * 2 * 3 / 4] * 2)


@pytest.mark.parametrize("mode", MODES)
def test_graphs_make_the_same_pictures(mode, as_on_cuda, monkeypatch):
    """Of layouts with other K, in styles drawn for each, from the prior and of photos; then with other weights."""
    opt = options(*MODES[mode], device=CPU).for_evaluation()
    trained = trainer_of(options(*MODES[mode], device=CPU)).model.state_dict()
    maker = BatchMaker.of(opt.replace(device=META, cuda_graphs=True))
    data = data_of(dtype=torch.float64)
    layouts = [maker.tabulated({**data, "instance": data["instance"].roll(n, -1) * (1 + n % 3)}) for n in range(7)]
    found = []
    for as_graphs in (False, True):
        torch.manual_seed(0)
        synthesizer = Synthesizer(Pix2PixModel(opt).double())
        if as_graphs:
            cuda = Cuda(synthesizer.model.buffers, monkeypatch)
            synthesizer.graphs = Graphs(CPU)
        torch.manual_seed(1)
        results = []
        for n, layout in enumerate(layouts):
            if n == 5:
                synthesizer.model.load_state_dict(trained, strict=False)
            batch = synthesizer.prepare(layout)
            results.append(synthesizer.images(batch, synthesizer.draw_styles(batch, seeds=[n, n + 1])))
            results.append(synthesizer.images(batch))
            if synthesizer.model.netE:
                results.append(synthesizer.images(batch, synthesizer.encode_styles(batch)))
                assert len(synthesizer.posterior(batch).mu[0]) == batch.layout.num_instances
        found.append(results)
    assert cuda.recorded == (2 if opt.use_vae else 1)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
