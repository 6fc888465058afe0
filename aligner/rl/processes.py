"""Communication between the processes of a step; with one process there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from aligner.errors import StageError


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """Processes of a step: each computes its part, and sums bring all parts to every process."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def join(cls, *, rank: int, world_size: int, device: torch.device) -> ProcessGroup:
        """Join the other processes, if there are any.

        Raises:
            StageError: another number of processes joined.
        """
        if world_size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        joined = distributed.get_world_size() if world_size > 1 else 1
        if joined != world_size:
            raise StageError(f"{world_size} processes were requested and {joined} joined")
        return cls(rank=rank, world_size=world_size, device=device)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of the tensors of all processes, on every process.

        Where each process fills its own rows and leaves the others 0, this gathers them.
        """
        if self.world_size == 1:
            return tensor
        total = tensor.to(self.device, copy=True)
        distributed.all_reduce(total)
        return total.to(tensor.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up gradients in place; a process without rows counts as 0."""
        if self.world_size == 1:
            return
        pending = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            pending.append(distributed.all_reduce(parameter.grad, async_op=True))
        for work in pending:
            work.wait()

    def own_indices(self, number: int) -> list[int]:
        """Return the indices below `number` that belong to this process: every `world_size`-th."""
        return list(range(self.rank, number, self.world_size))

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            distributed.barrier()
