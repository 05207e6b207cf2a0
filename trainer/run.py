"""The stages of one training run: their loops, the judgement of each epoch, and what is kept of it."""

import copy
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from shared.beam_search import Rules
from shared.captioner import caption_rules
from shared.image import Preprocessing
from shared.model import CaptionModel
from shared.vocabulary import Vocabulary
from trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trainer.coco import Photo, tell_problems
from trainer.config import TrainConfig, decode_options
from trainer.data_loader import Batch, CocoCaptions, get_loader, set_epoch
from trainer.distributed import Group
from trainer.evaluate import references_of, score
from trainer.evaluate.health import caption_health
from trainer.features import FeatureCache, cache_features
from trainer.learner import Learner
from trainer.loop import Lesson, Progress, caption_freely, train_one_epoch
from trainer.optimisation import Optimisation
from trainer.prometheus import RunMetrics
from trainer.run_state import BEST, LOG, Position, restore_optimisation, save_last
from trainer.self_critical import SelfCritic
from trainer.stages import Stage, stages_of
from trainer.stopping import StoppedError

FEATURES = "features"
DANGLING = 0.01
"""The share of captions ending in a function word from which self-critical training mixes cross-entropy in."""

logger = logging.getLogger(__name__)

Inputs = FeatureCache | Preprocessing
"""Where the inputs of a photo come from: its cached features, or the file as this preprocessing reads it."""


class Run:
    """What all stages of a run share."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        group: Group,
        stopping: Callable[[], bool],
        vocabulary: Vocabulary,
        preprocessing: Preprocessing,
        record: dict[str, Any],
        metrics: RunMetrics,
    ) -> None:
        self.config, self.folder, self.group, self.stopping = config, folder, group, stopping
        self.vocabulary, self.preprocessing, self.record = vocabulary, preprocessing, record
        self.metrics = metrics
        self.lines: list[dict[str, Any]] = []
        """Of the log, one per epoch."""

    def go(
        self, model: CaptionModel, photos: Sequence[Photo], val: Sequence[Photo], last: Checkpoint | None
    ) -> dict[str, Any]:
        """All stages, from where `last` stands; returns the best epoch's line of the log."""
        position, averaged = Position(), copy.deepcopy(model)
        if last:
            state = last.record["state"]
            position, self.lines = Position.from_dict(state["position"]), state["lines"]
            model.load_state_dict(last.part("learner"))
            averaged.load_state_dict(last.part("model"))
            logger.info("going on with a run of %d epochs and %d batches", len(self.lines), position.progress.batches)
        stages = stages_of(self.config)
        self.metrics.begin(sum(stage.epochs for stage in stages), self.lines)
        for number, stage in enumerate(stages[position.stage :], start=position.stage):
            if number > position.stage:  # what is best so far goes on
                best = load_checkpoint(self.folder / BEST).part("model")
                model.load_state_dict(best)
                averaged.load_state_dict(best)
                position, last = Position(number), None
            self._train_stage(stage, position, model, averaged, photos, val, last)
        return self.best

    @property
    def best(self) -> dict[str, Any]:
        """The line of the best epoch so far."""
        return max(self.lines, key=lambda line: line["val"]["CIDEr-D"])

    def _train_stage(
        self,
        stage: Stage,
        position: Position,
        model: CaptionModel,
        averaged: CaptionModel,
        photos: Sequence[Photo],
        val: Sequence[Photo],
        last: Checkpoint | None,
    ) -> None:
        learner, average = (
            Learner(each, tuned_stages=stage.tuned_stages, double=self.config.precision == "fp64")
            for each in (model, averaged)
        )
        learned, inputs = self._prepare(photos, learner, mirror=self.config.mirror)
        judged, val_inputs = self._prepare(val, average, mirror=False)
        logger.info("%s: %d photos to learn from, %d to validate", stage.name, len(learned), len(judged))
        loader = self._loader(learned, inputs)
        optimisation = self._optimisation(stage, learner, average, steps=self._steps(len(loader)) * stage.epochs)
        lesson = self._lesson(stage, learner, loader)
        if last:
            restore_optimisation(last, optimisation)
        else:
            self._save(position, optimisation)
        while position.epochs < stage.epochs:
            self._train_epoch(stage, position, optimisation, loader, lesson)
            line = self._judge(stage, position, optimisation, judged, val_inputs)
            position.epochs, position.progress = position.epochs + 1, Progress()
            self._keep(line, position, optimisation)

    def _prepare(self, photos: Sequence[Photo], learner: Learner, *, mirror: bool) -> tuple[list[Photo], Inputs]:
        """Cache what the trunk makes of the photos, if the config says so, without those that turn out broken."""
        if not self.config.cache_features:
            return list(photos), self.preprocessing
        with self.group.first_then_others():
            cache = self.folder / FEATURES
            features = cache_features(photos, learner.trunk, self.preprocessing, cache, mirror=mirror)
        tell_problems(
            [f"{path}: {problem}" for path, problem in features.problems.items()], strict=self.config.strict_data
        )
        return [photo for photo in photos if photo.path not in features.problems], features

    def _loader(self, photos: Sequence[Photo], inputs: Inputs) -> "DataLoader[Any]":
        config = self.config
        return get_loader(
            photos,
            inputs,
            self.vocabulary,
            images_per_batch=config.images_per_batch,
            captions_per_image=config.captions_per_image,
            max_words=config.max_words,
            consensus=config.consensus,
            mirror=config.mirror,
            seed=config.seed,
            workers=0 if config.cache_features else config.workers,
            rank=self.group.rank,
            processes=self.group.size,
        )

    def _steps(self, batches: int) -> int:
        return -(-batches // self.config.accumulate)

    def _optimisation(self, stage: Stage, learner: Learner, average: Learner, *, steps: int) -> Optimisation:
        config = self.config
        return Optimisation(
            learner,
            average,
            self.group,
            rate=stage.rate(config.warmup_steps, steps),
            learning_rate=stage.learning_rate,
            encoder_learning_rate=stage.encoder_learning_rate,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
            ema_decay=config.ema_decay,
            label_smoothing=0.0 if stage.is_self_critical else config.label_smoothing,
            own_words=0.0 if stage.is_self_critical else config.scheduled_sampling,
            dropout=not stage.is_self_critical,
            temperature=config.temperature if stage.is_self_critical else 1.0,
            precision=config.precision,
        )

    def _lesson(self, stage: Stage, learner: Learner, loader: "DataLoader[Any]") -> Lesson:
        if not stage.is_self_critical:
            return lambda batch: (batch, 0.0)
        dataset = loader.dataset
        assert isinstance(dataset, CocoCaptions)
        config = self.config
        critic = SelfCritic(
            dataset, samples=config.samples_per_image, max_words=config.max_length, temperature=config.temperature
        )

        def lesson(batch: Batch) -> tuple[Batch, float]:
            dangling = self.lines[-1].get("health", {}).get("dangling_endings", 0.0) if self.lines else 0.0
            share = config.cross_entropy_share if dangling > DANGLING else 0.0
            return critic.lesson(learner, batch, cross_entropy_share=share)

        return lesson

    def _train_epoch(
        self,
        stage: Stage,
        position: Position,
        optimisation: Optimisation,
        loader: "DataLoader[Any]",
        lesson: Lesson,
    ) -> None:
        epoch, config = len(self.lines) + 1, self.config

        def seeds(batch: int) -> int:
            sequence = np.random.SeedSequence([config.seed, epoch, batch, self.group.rank])
            return int(sequence.generate_state(1)[0])

        def after_step() -> None:
            self.metrics.after_step(position.progress, optimisation.learning_rate)
            due = config.checkpoint_steps and optimisation.steps % config.checkpoint_steps == 0
            [stopping] = self.group.sum(self._asked_to_stop())
            if due or stopping:
                self._save(position, optimisation)
            if stopping:
                raise StoppedError(f"stopped in epoch {epoch}; the same command goes on from there")

        set_epoch(loader, epoch, position.progress.batches)
        train_one_epoch(
            optimisation,
            loader,
            lesson,
            position.progress,
            total=position.progress.batches + len(loader),
            accumulate=config.accumulate,
            seeds=seeds,
            title=f"{stage.name} {position.epochs + 1}/{stage.epochs}",
            after_step=after_step,
        )

    def _asked_to_stop(self) -> bool:
        return self.stopping()

    def _judge(
        self,
        stage: Stage,
        position: Position,
        optimisation: Optimisation,
        val: Sequence[Photo],
        inputs: Inputs,
    ) -> dict[str, Any]:
        """The line of the log: what was learned in the epoch, and how well the running mean of the weights captions."""
        began, options, progress = time.perf_counter(), decode_options(self.config), position.progress
        rules = caption_rules(self.vocabulary, options)
        said = self._say(optimisation.average, val, inputs, options.beam_size, rules)
        line: dict[str, Any] = {
            "epoch": len(self.lines) + 1,
            "stage": stage.name,
            "loss": progress.loss / progress.words,
            "images_per_second": progress.images / progress.seconds,
            "learning_rate": optimisation.learning_rate,
            "val": self.group.first(score(references_of(val), said) if self.group.is_first else {}),
        }
        if stage.is_self_critical:
            line["reward"] = progress.reward / progress.batches
            free = dataclasses.replace(rules, bad_endings=())
            said = self._say(optimisation.average, val, inputs, 1, free)
        line["health"] = caption_health(list(said.values()))
        line["seconds"] = progress.seconds + time.perf_counter() - began
        return line

    def _say(
        self, learner: Learner, val: Sequence[Photo], inputs: Inputs, beam_size: int, rules: Rules
    ) -> dict[int, str]:
        """Captions of all of `val`, of which each process says a part."""
        part = val[self.group.rank :: self.group.size]
        device = self.group.device
        return self.group.merge(
            caption_freely(learner, part, inputs, self.vocabulary, beam_size=beam_size, rules=rules, device=device)
        )

    def _keep(self, line: dict[str, Any], position: Position, optimisation: Optimisation) -> None:
        """Log the epoch; save the best weights, then where the run stands."""
        self.lines.append(line)
        self.metrics.after_epoch(line, self.best["val"]["CIDEr-D"])
        if self.group.is_first:
            _log(self.lines, self.folder / LOG)
            if self.best is line:
                record = {**self.record, "epoch": line, "seconds": sum(each["seconds"] for each in self.lines)}
                save_checkpoint(self.folder / BEST, {"model": optimisation.average.model.state_dict()}, record)
        self._save(position, optimisation)

    def _save(self, position: Position, optimisation: Optimisation) -> None:
        if self.group.is_first:
            save_last(self.folder, position, optimisation, self.record, self.lines)


def _log(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the log anew, whole: a resumed run repeats no line."""
    line = lines[-1]
    message = "epoch %d (%s): loss %.3f, CIDEr-D %.1f, BLEU-4 %.1f"
    scores = line["val"]
    logger.info(message, line["epoch"], line["stage"], line["loss"], scores["CIDEr-D"], scores["BLEU-4"])
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text("".join(json.dumps(each) + "\n" for each in lines))
    unfinished.replace(path)
