"""`python -m tests.trainer.stepping OUT STEPS PRECISION`: trains on made lessons, alone or under torchrun.

Each process learns its share of every batch; rank 0 writes the loss of each step, as JSON.
"""

import json
import sys
from pathlib import Path

import torch

from tests.trainer.lessons import made_learner, made_lesson, made_optimisation, part_of
from trainer.distributed import process_group


def main(out: Path, steps: int, precision: str) -> None:
    torch.set_num_threads(1)
    with process_group() as group:
        learner = made_learner(tuned_stages=1, double=precision == "fp64")
        optimisation = made_optimisation(learner, group, clip_norm=0.5, learning_rate=3e-3)
        losses = []
        for step in range(steps):
            images = 3 if step % 10 == 9 else 8  # now and then a short last batch, of which the shares differ
            whole = made_lesson(images, seed=step, pixels=True)
            lesson = part_of(whole, list(range(group.rank, images, group.size)))
            [words] = group.sum(lesson.words)
            losses += group.sum(optimisation.learn([lesson], words))
        if group.is_first:
            out.write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
