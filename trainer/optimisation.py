"""From lessons to better weights: loss by the token, gradients, a step of the optimiser, the running mean."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import AdamW

from trainer.data_loader import Batch
from trainer.distributed import Group
from trainer.learner import Learner

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Optimisation:
    """AdamW over what `learner` learns, in all processes alike; `average` follows with a running mean.

    `rate(step)` is the factor on both learning rates. With `dropout` false the decoder learns as it decodes.
    `temperature` is what the logits of the lessons were divided by when they were sampled.
    """

    def __init__(
        self,
        learner: Learner,
        average: Learner,
        group: Group,
        *,
        rate: Callable[[int], float],
        learning_rate: float,
        encoder_learning_rate: float,
        weight_decay: float,
        clip_norm: float,
        ema_decay: float,
        label_smoothing: float = 0.0,
        own_words: float = 0.0,
        dropout: bool = True,
        temperature: float = 1.0,
        precision: str = "fp32",
    ) -> None:
        self.learner, self.average, self.group, self.rate = learner, average, group, rate
        self.clip_norm, self.ema_decay, self.own_words, self.dropout = clip_norm, ema_decay, own_words, dropout
        self.temperature = temperature
        self.criterion = nn.CrossEntropyLoss(reduction="none", label_smoothing=label_smoothing)
        self.peaks = [learning_rate, encoder_learning_rate]
        self.parameters = [list(learner.model.decoder.parameters()), list(learner.encoder_parameters())]
        self.optimizer = AdamW(
            [{"params": parameters} for parameters in self.parameters if parameters],
            weight_decay=weight_decay,
            fused=True,
        )
        kind = group.device.partition(":")[0]
        self.autocast = torch.autocast(kind, AUTOCAST.get(precision), enabled=precision in AUTOCAST)
        self.scaler = torch.amp.GradScaler(kind, enabled=precision == "fp16")
        self.steps = 0
        self._wrapped: Any = learner
        if group.size > 1:
            self._wrapped = DistributedDataParallel(learner, broadcast_buffers=False)

    @property
    def learning_rate(self) -> float:
        """Of the decoder, in the last step."""
        return self.optimizer.param_groups[0]["lr"]

    def learn(self, lessons: Sequence[Batch], words: float) -> float:
        """One step on `lessons`, whose loss is a mean over `words`: those of all processes. Returns this one's part."""
        self.learner.model.eval()
        self.learner.model.decoder.train(self.dropout)
        total = 0.0
        for i, batch in enumerate(lessons):
            is_last = i == len(lessons) - 1
            with contextlib.nullcontext() if is_last or self.group.size == 1 else self._wrapped.no_sync():
                loss = self._loss(batch) / words
                torch.autograd.backward(
                    self.scaler.scale(loss * self.group.size)
                )  # the processes' gradients will be averaged
            total += loss.item()
        self._update()
        return total

    def _loss(self, batch: Batch) -> Tensor:
        """Summed over the words, each at its caption's weight."""
        with self.autocast:
            logits = self._wrapped(batch.inputs, batch.captions, batch.lengths, batch.images, self.own_words)
        steps = pack_padded_sequence(batch.captions[:, 1:], batch.lengths - 1, batch_first=True)
        weights = torch.cat([batch.weights[:size] for size in steps.batch_sizes.tolist()])
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.temperature != 1:  # a division costs as much as a tenth of the step
            logits = logits / self.temperature
        return (self.criterion(logits, steps.data) * weights).sum()

    def _update(self) -> None:
        for options, peak in zip(self.optimizer.param_groups, self.peaks, strict=False):
            options["lr"] = peak * self.rate(self.steps)
        self.scaler.unscale_(self.optimizer)
        for parameters in self.parameters:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.steps += 1
        self._follow(min(self.ema_decay, 1 - 10 / (10 + self.steps)))

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """Move the running mean of the weights towards the weights of now."""
        for mean, now in zip(self.average.parameters(), self.learner.parameters(), strict=True):
            if now.requires_grad:
                mean.lerp_(now, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """The optimiser's memory, by parameter and name."""
        state = self.optimizer.state_dict()["state"]
        return {f"{i}.{name}": torch.as_tensor(value) for i, parts in state.items() for name, value in parts.items()}

    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on after `steps` steps with what `state` gave."""
        parts: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            parameter, _, name = key.partition(".")
            parts.setdefault(int(parameter), {})[name] = tensor
        self.optimizer.load_state_dict({"state": parts, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.steps = steps
