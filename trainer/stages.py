"""The stages of a run. Each starts from the best weights so far, with an optimiser and a schedule of its own.

1. `cross_entropy`: the decoder learns the captions, word by word, on a frozen encoder.
2. `fine_tune`: the same, and the encoder's last stages learn too, slowly.
3. `self_critical`: the decoder says captions of its own and learns which of them score well.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from trainer.config import TrainConfig
from trainer.loop import warmup_then_constant, warmup_then_cosine


@dataclass(frozen=True)
class Stage:
    name: str
    epochs: int
    learning_rate: float
    encoder_learning_rate: float = 0.0
    tuned_stages: int = 0

    @property
    def is_self_critical(self) -> bool:
        return self.name == "self_critical"

    def rate(self, warmup_steps: int, total_steps: int) -> Callable[[int], float]:
        """The factor on the learning rates at a step: self-critical training keeps its rate, the others let it fall."""
        if self.is_self_critical:
            return functools.partial(warmup_then_constant, warmup=warmup_steps)
        return functools.partial(warmup_then_cosine, warmup=warmup_steps, total=total_steps)


def stages_of(config: TrainConfig) -> list[Stage]:
    """Those with at least one epoch, in order. What was fine-tuned stays as it is in the last one."""
    every = [
        Stage("cross_entropy", config.epochs, config.learning_rate),
        Stage(
            "fine_tune",
            config.fine_tune_epochs,
            config.fine_tune_learning_rate,
            config.encoder_learning_rate,
            config.tuned_stages,
        ),
        Stage("self_critical", config.self_critical_epochs, config.self_critical_learning_rate),
    ]
    return [stage for stage in every if stage.epochs]
