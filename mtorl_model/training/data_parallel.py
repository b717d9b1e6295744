"""Data-parallel training: several processes with the same weights, each with its parts of every batch.

torchrun starts the processes, or `launch` does on one machine; each enters `joined` to communicate with the others.
Outside of `joined` all functions here act as for a single process and do not communicate.
"""

import ctypes
import logging
import os
import platform
import select
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from schemas.errors import EXIT_TRY_AGAIN, Busy, UserError

# The others wait while the first process encodes, perhaps a long history. The launcher detects dead processes.
_TIMEOUT = timedelta(hours=6)
_END_DELAY_S = 2.0
_LAUNCHER_DELAY_S = 60  # at most, until the launcher ends the other processes after one has died
_PR_SET_PDEATHSIG = 1  # see man prctl (Linux)

T = TypeVar("T")


def processes() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the first process; only it writes checkpoints, the registry and the lake."""
    return rank() == 0


def is_launched() -> bool:
    """Whether torchrun or `launch` has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within this context the process communicates with the others of its launcher; on GPUs, each process has one.

    Raises UserError if there are too few GPUs, and Busy if another process has died.
    """
    if not is_launched():
        yield
        return
    _die_with_launcher()
    on_gpu, local_rank = device.type == "cuda", int(os.environ["LOCAL_RANK"])
    if on_gpu and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes for the {torch.cuda.device_count()} GPUs of this machine: "
            "start one process per GPU (--processes, torchrun's --nproc-per-node)"
        )
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    descriptors = _other_processes()
    try:
        yield
    except UserError:
        if not is_first():
            time.sleep(_LAUNCHER_DELAY_S)  # usually all processes fail alike; the first one prints the error
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _has_ended(descriptors):
            raise
        time.sleep(_LAUNCHER_DELAY_S)  # the launcher names the dead process and ends this one
        raise Busy(
            "another process of this training has died: start the training again, it resumes from its checkpoint"
        ) from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        dist.destroy_process_group()


def own_parts(parts: int) -> slice:
    """The parts of a batch that this process computes. Raises UserError if they cannot be distributed evenly."""
    share, remainder = divmod(parts, processes())
    if remainder:
        raise UserError(
            f"{processes()} processes cannot share batches of {parts} micro-batches evenly: "
            f"give a multiple of {processes()} (--micro-batches)"
        )
    return slice(rank() * share, (rank() + 1) * share)


def replicated(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model, wrapped so that the last backward pass of a step averages gradients over the processes."""
    if processes() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None)


def add_up(tensor: Tensor) -> Tensor:
    """Add up the tensor over all processes, in place. The host does not wait for a GPU."""
    if processes() > 1:
        dist.all_reduce(tensor)
    return tensor


def from_first(make: Callable[[], T]) -> T:
    """The result of `make` in the first process; the others do not call it and wait for the result."""
    results = [make() if is_first() else None]
    if processes() > 1:
        dist.broadcast_object_list(results)
    return results[0]  # type: ignore[return-value]


def first_alone(make: Callable[[], T]) -> T:
    """The result of `make`: the first process calls it, then the others, which can use the files it has written."""
    if processes() == 1:
        return make()
    if not is_first():
        dist.barrier()
    result = make()
    if is_first():
        dist.barrier()
    return result


def all_same(value: str) -> bool:
    """Whether the value is equal in all processes."""
    values: list[str] = [""] * processes()
    if processes() > 1:
        dist.all_gather_object(values, value)
    return processes() == 1 or len(set(values)) == 1


def launch(number: int, module: str, arguments: Sequence[str]) -> None:
    """Run `python -m module arguments` in several processes on this machine that train together, as torchrun does.

    Unlike torchrun it exits with the status of the process that failed first, so that a scheduler can distinguish a
    user's error from a temporary one. If a process was killed, it prints one line that names the process.
    """
    # torch.distributed's launcher is slow to import, and the launched processes do not need it.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # one line is enough
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // number)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=number, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", max_restarts=0,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except SignalException as signalled:  # torch has already ended the processes
        sys.exit(128 + signalled.sigval)
    except ChildFailedError as error:
        # After a failure the launcher itself ends the other processes with SIGTERM.
        status_by_rank = {rank: failure.exitcode for rank, failure in error.failures.items()}
        killed = [rank for rank, status in status_by_rank.items() if status < 0 and -status != signal.SIGTERM]
        failed = [rank for rank, status in status_by_rank.items() if status > 0]
        first_rank = next(iter(killed or failed or status_by_rank))
        status = status_by_rank[first_rank]
        if status > 0:  # the process has printed its error
            sys.exit(status)
        print(
            f"error: process {first_rank} of {number} was killed by {signal.Signals(-status).name} (out of memory?): "
            "start the training again, it resumes from its checkpoint",
            file=sys.stderr,
        )
        sys.exit(EXIT_TRY_AGAIN)


def _other_processes() -> list[int]:
    """Descriptors of the other processes of the training on this machine; only Linux has them."""
    members: list[tuple[str, int]] = [("", 0)] * processes()
    dist.all_gather_object(members, (platform.node(), os.getpid()))
    if sys.platform != "linux":
        return []
    return [os.pidfd_open(pid) for host, pid in members if host == platform.node() and pid != os.getpid()]


def _has_ended(descriptors: Sequence[int]) -> bool:
    """Whether one of these processes has ended, or ends now: its connections are closed a moment before it."""
    return bool(select.select(descriptors, [], [], _END_DELAY_S)[0])


def _die_with_launcher() -> None:
    """Let the system end this process when its launcher dies; a launcher killed by SIGKILL cannot do so itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
