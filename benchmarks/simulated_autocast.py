"""Mixed precision on PyTorch's device "meta", where ``torch.autocast`` does not work."""
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

# of what autocast converts on CUDA, what this project uses
_NARROW = ((F, "conv2d"), (F, "linear"), (torch, "addmm"), (torch, "mm"), (torch, "mv"), (Tensor, "__matmul__"))
_WIDE = ((F, "l1_loss"), (F, "mse_loss"), (F, "binary_cross_entropy_with_logits"), (torch, "exp"), (Tensor, "exp"),
         (torch, "sum"), (Tensor, "sum"), (torch, "rsqrt"), (Tensor, "pow"))


class _Autocast:
    """Converts what goes into operations, a parameter once in a pass."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.enabled = [False]  # that of the innermost context last
        self.converted: dict[int, Tensor] = {}

    def narrowed(self, x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter):
            return x.to(self.dtype)
        if id(x) not in self.converted:
            self.converted[id(x)] = x.to(self.dtype)
        return self.converted[id(x)]

    def converting(self, function: Callable, convert: Callable[[Tensor], Tensor]) -> Callable:
        def converts(*args: Any, **kwargs: Any) -> Any:
            if self.enabled[-1]:
                args, kwargs = tree_map(lambda x: convert(x) if isinstance(x, Tensor) and x.is_floating_point() else x,
                                        (args, kwargs))
            return function(*args, **kwargs)

        return converts

    def context(self, device_type: str, enabled: bool = True, **_: Any) -> "_Context":
        """In place of ``torch.autocast``; contexts for other devices change nothing."""
        return _Context(self, enabled if device_type == "meta" else None)


class _Context(contextlib.AbstractContextManager):
    """May be entered again and again."""

    def __init__(self, autocast: _Autocast, enabled: bool | None):
        self._autocast, self._enabled = autocast, enabled

    def __enter__(self):
        enabled = self._autocast.enabled
        enabled.append(enabled[-1] if self._enabled is None else self._enabled)

    def __exit__(self, *_: Any):
        self._autocast.enabled.pop()
        if len(self._autocast.enabled) == 1:
            self._autocast.converted.clear()


@contextlib.contextmanager
def simulated_autocast(dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """``torch.autocast("meta")`` and what asks for it work in this block, with this type."""
    autocast = _Autocast(dtype)
    replaced = [(torch, "autocast", autocast.context), (torch.amp, "autocast", autocast.context),
                (torch.amp, "is_autocast_available", lambda *_: True),
                (torch, "is_autocast_enabled", lambda *_: autocast.enabled[-1]),
                (torch, "get_autocast_dtype", lambda *_: dtype)]
    replaced += [(owner, name, autocast.converting(getattr(owner, name), convert))
                 for functions, convert in ((_NARROW, autocast.narrowed), (_WIDE, Tensor.float))
                 for owner, name in functions]
    with contextlib.ExitStack() as stack:
        for owner, name, replacement in replaced:
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield
