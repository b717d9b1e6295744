"""The kernels that a GPU runs, and the shares of its time that they take."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from schemas.errors import UserError

_MATRIX_PRODUCT = re.compile(
    r"gemm|cutlass|nvjet|xmma|conv(?!ert)|wgrad|dgrad|fprop|attention|fmha|flash", re.IGNORECASE
)


class Kernel(NamedTuple):
    """One task of a GPU; start and end in microseconds."""

    name: str
    start: float
    end: float


def profiled(run: Callable[[], Any]) -> list[Kernel]:
    """The kernels that a run starts on the GPU."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    return [
        Kernel(event.name, event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type.name == "CUDA"
    ]


def time_shares(kernels: Iterable[Kernel]) -> dict[str, float]:
    """The shares of the time from the first kernel to the last: matrix products, other kernels, no kernel.

    Kernels other than matrix products move memory. Without a kernel the GPU waits for the launch of the next one.
    """
    ordered = sorted(kernels, key=lambda kernel: kernel.start)
    if not ordered:
        raise UserError("the profiler recorded no kernel: does this process have a GPU that it may profile?")
    spent, covered_until = {"matrix_multiply": 0.0, "memory": 0.0, "launch": 0.0}, ordered[0].start
    for kernel in ordered:
        spent["launch"] += max(0.0, kernel.start - covered_until)
        kind = "matrix_multiply" if _multiplies(kernel.name) else "memory"
        spent[kind] += max(0.0, kernel.end - max(kernel.start, covered_until))
        covered_until = max(covered_until, kernel.end)
    return {f"{kind}_share": time_us / (covered_until - ordered[0].start) for kind, time_us in spent.items()}


def _multiplies(kernel: str) -> bool:
    """Compiled kernels that multiply are made from a template. The names of others contain those of earlier kernels."""
    return kernel.startswith("triton_tem") if kernel.startswith("triton_") else bool(_MATRIX_PRODUCT.search(kernel))
