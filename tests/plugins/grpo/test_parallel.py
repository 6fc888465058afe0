"""Two processes compute the same as one process with the whole batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from process_runs import assert_equal_runs, run_script, train_in


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path) -> None:
    """Groups, advantages, divisors of the loss, gradients, KL coefficient and checkpoints, for 3
    iterations of 16 responses.
    """
    run_script(__file__, tmp_path / "one", processes=1)
    run_script(__file__, tmp_path / "two", processes=2)
    assert_equal_runs(tmp_path / "one", tmp_path / "two")


if __name__ == "__main__":
    from conftest import options, tiny_grpo

    settings = options(
        num_mini_batches=3, per_device_train_batch_size=2, save_steps=1, kl_target=0.5
    )
    train_in(Path(sys.argv[1]), lambda context, p: tiny_grpo(settings, context, processes=p))
