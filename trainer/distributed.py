"""Several processes that train as one: the same program alone, or under `torchrun` on one machine or many."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

Value = TypeVar("Value")


@dataclass(frozen=True)
class Group:
    """This process among `size`; the one of rank 0 writes, prints and scores."""

    rank: int
    size: int
    device: str

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes, in double precision."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def merge(self, part: Mapping[int, Value]) -> dict[int, Value]:
        """The parts of all processes as one; what several hold is there once."""
        if self.size == 1:
            return dict(part)
        parts: list[Any] = [None] * self.size
        distributed.all_gather_object(parts, dict(part))
        return {key: value for each in parts for key, value in each.items()}

    def first(self, value: Value) -> Value:
        """What rank 0 has."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    @contextlib.contextmanager
    def first_then_others(self) -> Iterator[None]:
        """Rank 0 goes through the block alone, then all others; for work that leaves files behind."""
        if not self.is_first:
            distributed.barrier()
        try:
            yield
        finally:
            if self.is_first and self.size > 1:
                distributed.barrier()


@contextlib.contextmanager
def process_group() -> Iterator[Group]:
    """The group that `torchrun`'s environment describes, or this process alone."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        torch.cuda.set_device(device)
    if size == 1:
        yield Group(rank, size, device)
        return
    store, *_ = next(rendezvous("env://"))
    # torchrun's store outlives a restart: without a name of its own the new group would find the dead one's addresses.
    store = PrefixStore(f"restart-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if device != "cpu" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield Group(rank, size, device)
    finally:
        distributed.destroy_process_group()
