"""Agree among processes: sums over all of them, or nothing to do where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from aligner.errors import StageError


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes of a step. Each holds part of the work; sums bring it all to everyone."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def of(cls, *, rank: int, world: int, device: torch.device) -> ProcessGroup:
        """Join the other processes, if there are any.

        Raises:
            StageError: as many were asked for as did not come.
        """
        if world > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        joined = distributed.get_world_size() if world > 1 else 1
        if joined != world:
            raise StageError(f"{world} processes were asked for and {joined} joined")
        return cls(rank=rank, world=world, device=device)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, on every process.

        Each puts what it knows in its own rows and leaves 0 elsewhere, so this also gathers.
        """
        if self.world == 1:
            return tensor
        there = tensor.to(self.device, copy=True)
        distributed.all_reduce(there)
        return there.to(tensor.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up gradients in place; a process that had no rows counts as 0."""
        if self.world == 1:
            return
        pending = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            pending.append(distributed.all_reduce(parameter.grad, async_op=True))
        for one in pending:
            one.wait()

    def mine(self, number: int) -> list[int]:
        """Which of `number` things are this process's: every `world`-th."""
        return list(range(self.rank, number, self.world))

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            distributed.barrier()
