"""The machine: which device computes, what it can do, and how many FLOPs some work has.

A FLOP is one multiplication or addition; a product of (n, n) matrices has 2 n^3.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from .parameters import InputError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pick_device(device: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` takes the fastest there is."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"device = {device!r} cannot be used here ({reason}). Use device = 'auto' or 'cpu'.") from None


def synchronised(device: torch.device) -> float:
    """Return the time in seconds, once the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def matrix_rate(device: torch.device, precision: str, seconds: float = 0.5) -> float:
    """Return the machine's measured rate of square matrix products in FLOP/s: the best median over sizes.

    Parameters
    ----------
    precision : {"fp32", "bf16"}
    seconds : float
        How long each size is measured at least.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision = {precision!r} is refused: {' or '.join(PRECISIONS)}.")
    best = 0.0
    for n in (512, 1024, 2048) if device.type == "cpu" else (2048, 4096, 8192):
        left, right = (torch.randn(n, n, device=device).to(PRECISIONS[precision]) for _ in range(2))
        out, took = left @ right, []  # the first product picks its kernel
        # One at a time on the CPU; on a GPU enough of them that starting them is not what is measured.
        many = 1 if device.type == "cpu" else 20
        while sum(took) < seconds or len(took) < 3:
            started = synchronised(device)
            for _ in range(many):
                torch.mm(left, right, out=out)
            took.append(synchronised(device) - started)
        best = max(best, 2 * n**3 * many / float(np.median(took)))
    return best


def counted_flops(work: Callable[[], object]) -> int:
    """Return the FLOPs of the matrix products and convolutions that some work does, backward passes included.

    Attention is counted in its plain form: fused kernels of a CPU are unknown to torch's counter.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
