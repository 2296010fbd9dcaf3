"""How `mini`'s weights are moved: Muon for the matrices, AdamW for the rest, and a checkpoint of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from .files import write_whole


def orthogonal(matrix_RC: Tensor, steps: int = 5) -> Tensor:
    """Return the matrix with its singular values brought near one.

    Newton-Schulz iteration with the coefficients of Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon):
    they reach 0.7 to 1.2 in five steps rather than one exactly in many.
    """
    x = matrix_RC.bfloat16() / (matrix_RC.norm() + 1e-7)
    x = x.T if x.size(0) > x.size(1) else x
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.775 * square) @ x
    return (x.T if matrix_RC.size(0) > matrix_RC.size(1) else x).to(matrix_RC.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is made orthogonal; decay is decoupled.

    torch.optim.Muon takes matrices alone; here a bank of filters counts as one, (filters, everything else).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def step(self) -> None:
        """Make one step on every parameter that has a gradient, two at a time."""
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for group in self.param_groups:
                list(pool.map(lambda p, group=group: self._move(p, group), group["params"]))

    @torch.no_grad()
    def _move(self, p: nn.Parameter, group: dict) -> None:
        if p.grad is None:
            return
        momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
        momentum.lerp_(p.grad, 1 - group["momentum"])
        step_RC = p.grad.lerp(momentum, group["momentum"]).flatten(1)
        # A tall matrix gets a longer step, so that outputs change alike whatever the shape.
        factor = max(1.0, step_RC.size(0) / step_RC.size(1)) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(orthogonal(step_RC).view(p.shape), alpha=-group["lr"] * factor)


def optimizers_of(clip: nn.Module, muon_lr: float, adam_lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Return Muon for filters and the text blocks' matrices, and AdamW without decay for all other numbers."""
    matrices, others = [], []
    for name, p in clip.named_parameters():
        multiplies = name.startswith(("visual.trunk", "transformer")) and p.ndim > 1
        # The first filters, 24 x 27, see raw pixels; embeddings and heads are Muon's known exceptions too.
        (matrices if multiplies and "conv1.0" not in name else others).append(p)
    adamw = torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.98), weight_decay=0, fused=True)
    return [Muon(matrices, muon_lr, weight_decay), adamw]


def save_checkpoint(path: Path, clip: nn.Module, optimizers: Sequence[torch.optim.Optimizer], epoch: int) -> None:
    """Write weights, the optimizers' tensors and the number of finished epochs as one safetensors file."""
    tensors = {f"model.{name}": value for name, value in clip.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for p, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{p}.{name}": value for name, value in state.items()}
    tensors["epoch"] = torch.tensor(epoch)
    # channels_last tensors are not contiguous, and safetensors wants them so.
    write_whole(path, save({name: value.contiguous() for name, value in tensors.items()}))


def load_checkpoint(path: Path, clip: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Take up a checkpoint in place; return the number of finished epochs."""
    tensors = load_file(path)
    clip.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    for i, optimizer in enumerate(optimizers):
        for key in (k for k in tensors if k.startswith(f"optimizer.{i}.")):
            _, _, number, name = key.split(".")
            p, value = optimizer.param_groups[0]["params"][int(number)], tensors[key]
            # Laid out as the parameter: fused AdamW walks through memory, and filters lie there channels last.
            optimizer.state[p][name] = torch.empty_like(p).copy_(value) if value.shape == p.shape else value
    return int(tensors["epoch"])
