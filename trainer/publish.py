"""From a checkpoint to a bundle: weights rounded, graphs exported, captions scored, a golden picture chosen."""

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from shared.bundle import WEIGHTS, Bundle, DecodeOptions, Golden, publish, sha256, write_bundle
from shared.captioner import Captioner, check_golden
from shared.engine_loading import load_engine
from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.vocabulary import Vocabulary
from trainer.card import CARD, model_card
from trainer.checkpoint import Checkpoint, load_checkpoint
from trainer.coco import Photo, read_split, subset_of
from trainer.config import TrainConfig, decode_options
from trainer.evaluate import caption_photos, has_java, references_of, score
from trainer.evaluate.leakage import TRAINED_ON
from trainer.export import export_graphs, fold_batch_norms, round_weights
from trainer.golden import choose_golden
from trainer.quantize import offer_int8
from trainer.run_state import BEST

EIGHT_BIT_COST = 0.5
"""CIDEr-D that 8-bit weights of the decoder may cost."""
GOLDEN = "golden.png"
PLACEHOLDER = Golden(GOLDEN, "", 0.0)

logger = logging.getLogger(__name__)


def publish_checkpoint(model_path: Path, data: Path, volume: Path, **decode: Any) -> Path:
    """Make a bundle of the best checkpoint in `model_path`, score it on its validation split, put it into `volume`.

    Both widths of the decoder's weights are built and scored; 8 bits are taken where they cost less than
    EIGHT_BIT_COST. An encoder in 8 bits is added on the same terms. `decode` are fields of DecodeOptions that differ
    from the run's config.
    """
    checkpoint = load_checkpoint(model_path / BEST)
    config = TrainConfig.from_mapping(checkpoint.record["config"])
    options = dataclasses.replace(decode_options(config), **decode)
    photos = read_split(data / config.val).photos
    trained_on = model_path / TRAINED_ON
    with tempfile.TemporaryDirectory() as scratch:
        half = build_bundle(checkpoint, config, options, photos, trained_on, Path(scratch, "half"), eight_bit=False)
        small = build_bundle(checkpoint, config, options, photos, trained_on, Path(scratch, "small"), eight_bit=True)
        cost = half.metrics[config.val]["CIDEr-D"] - small.metrics[config.val]["CIDEr-D"]
        logger.info("8-bit decoder weights cost %.2f CIDEr-D; %.1f is allowed", cost, EIGHT_BIT_COST)
        learned = [photo for name in config.train for photo in read_split(data / name).photos]
        return publish(offer_int8(small if cost < EIGHT_BIT_COST else half, learned, photos, config.val), volume)


def build_bundle(
    checkpoint: Checkpoint,
    config: TrainConfig,
    decode: DecodeOptions,
    photos: Sequence[Photo],
    trained_on: Path,
    folder: Path,
    *,
    eight_bit: bool,
) -> Bundle:
    """A whole bundle in `folder`, its captions of `photos` scored through the engine that will serve it."""
    folder.mkdir()
    shutil.copyfile(trained_on, folder / TRAINED_ON)
    record = checkpoint.record
    vocabulary = Vocabulary(record["vocabulary"])
    model = CaptionModel(ModelConfig(**record["architecture"]), Preprocessing.from_dict(record["preprocessing"]))
    model.load_state_dict(checkpoint.part("model"))
    fold_batch_norms(model.encoder, config.image_size)
    rounded = round_weights(model, eight_bit=eight_bit)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    save_file(halves, folder / WEIGHTS)
    export_graphs(model, config.image_size, folder, rounded)
    sealed: dict[str, Any] = {
        "name": config.name,
        "version": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{sha256(folder / WEIGHTS)[:8]}",
        "licence": config.licence,
        "architecture": record["architecture"],
        "preprocessing": Preprocessing.from_dict(record["preprocessing"]),
        "vocabulary": vocabulary,
        "decode": decode,
        "training": {
            key: value for key, value in record.items() if key not in ("vocabulary", "architecture", "preprocessing")
        },
    }
    draft = write_bundle(folder, **sealed, metrics={}, golden=PLACEHOLDER)
    captioner = Captioner(draft, load_engine("openvino", draft, precision="fp32"))
    said = caption_photos(captioner, photos, draft.decode)
    metrics = score_by_use(config, photos, said)
    golden = choose_golden(draft, folder / GOLDEN)
    (folder / CARD).write_text(model_card(sealed, metrics, photos, said, eight_bit=eight_bit))
    bundle = write_bundle(folder, **sealed, metrics=metrics, golden=golden)
    check_golden(Captioner(bundle, load_engine("openvino", bundle)))
    return bundle


def score_by_use(config: TrainConfig, photos: Sequence[Photo], said: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """The scores of the validation split; of its halves too where only one of them chose anything."""
    subsets = ["all"] if config.val_subset == "all" else ["all", "even", "odd"]
    metrics: dict[str, dict[str, Any]] = {}
    for subset in subsets:
        chosen = subset_of(photos, subset)
        scores = score(references_of(chosen), {p.image_id: said[p.image_id] for p in chosen}, meteor=has_java())
        use = (
            "validation, also used for choosing" if subset in ("all", config.val_subset) else "nothing was chosen on it"
        )
        name = config.val if subset == "all" else f"{config.val}, {subset} ids"
        metrics[name] = {**scores, "photos": len(chosen), "use": use}
    return metrics
