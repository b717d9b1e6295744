"""The machine that measures: its description, and the cores that the measured processes may use."""

import os
import platform
from pathlib import Path

import psutil
import torch

CORES = 2  # of everything that is measured without a GPU


def use_two_cores() -> None:
    """Restrict this process, and all that it starts from now on, to two of its cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def description() -> str:
    """One line: cores that this process may use, processor, memory, GPU, operating system."""
    cores = len(os.sched_getaffinity(0))
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{cores} cores ({_processor()}), {memory_gib:.0f} GiB{gpu}, {platform.system()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def device_name(device: str, cpu: str) -> str:
    """The name of the GPU for "cuda"; else "cpu" with a description of its part that is used."""
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu, {cpu}"
