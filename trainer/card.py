"""The model card that a bundle carries: what the model is, what it learned from, what it may be used for."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.model import ModelConfig
from trainer.coco import Photo

CARD = "README.md"
SAMPLES = 12
DECODERS = {
    "show_tell": "an LSTM of {hidden} units that is told the mean of the encoder's grid and then speaks",
    "show_attend_tell": "soft attention over the encoder's grid and an LSTM of {hidden} units",
    "updown": "soft attention over the encoder's grid, an attention LSTM and a language LSTM of {hidden} units",
}
LIMITS = """\
It knows the scenes and words of its training captions and nothing else; of anything else it still says something,
whatever of these looks nearest. It cannot read text, count beyond a few or tell who somebody is, and it carries the
habits and prejudices of those who wrote the training captions."""


def model_card(
    sealed: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    photos: Sequence[Photo],
    said: Mapping[int, str],
    *,
    eight_bit: bool,
) -> str:
    """Markdown, from the same values that the manifest holds."""
    sections = {
        "Model": _model(sealed, eight_bit=eight_bit),
        "Training": _training(sealed["training"]),
        "Scores": _scores(metrics),
        "What it says": _samples(photos, said),
        "Limits": LIMITS,
    }
    head = (
        f"# {sealed['name']}\n\nVersion `{sealed['version']}`. A picture goes in, an English sentence comes out.\n\n"
        f"**Licence of the weights:** {sealed['licence']}\n"
    )
    return head + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def with_scores(card: str, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The card with these scores in the place of those it has."""
    before, _, rest = card.partition("\n## Scores\n")
    _, heading, after = rest.partition("\n## ")
    return f"{before}\n## Scores\n\n{_scores(metrics)}\n{heading}{after}"


def _model(sealed: Mapping[str, Any], *, eight_bit: bool) -> str:
    architecture, pixels, decode = sealed["architecture"], sealed["preprocessing"], sealed["decode"]
    config = sealed["training"]["config"]
    kind = ModelConfig(**architecture).decoder
    decoder = DECODERS[kind].format(hidden=architecture["hidden_size"])
    return f"""\
- Encoder: `{architecture["backbone"]}`, weights `{config["encoder_weights"]}`; {pixels.size} x {pixels.size} pixels
  (`{pixels.resize}`).
- Decoder (`{kind}`): {decoder}; {len(sealed["vocabulary"])} words, each at least
  {config["min_count"]} times in the training captions.
- Weights in half precision{", the decoder's large matrices in 8 bits" if eight_bit else ""}.
- Beam search with {decode.beam_size} beams, length penalty {decode.length_penalty}, at most {decode.max_length}
  words."""


def _training(training: Mapping[str, Any]) -> str:
    config, splits = training["config"], training["splits"]
    learned = [
        f"`{name}` ({splits[name]['photos']} photos, {splits[name]['captions']} captions)" for name in config["train"]
    ]
    earlier = training.get("started_from")
    subset = config.get("val_subset", "all")
    chosen = f"`{config['val']}`" + ("" if subset == "all" else f" ({subset} ids)")
    return f"""\
- Data: {", ".join(learned)}{"; each photo also mirrored" if config["mirror"] else ""}.
- Cross-entropy with teacher forcing, label smoothing {config["label_smoothing"]}, dropout {config["dropout"]}; AdamW,
  warm-up and cosine, {config["images_per_batch"]} photos a step. Published is a running mean of the weights.
- {f"First run: {_stages(earlier['config'])}; {_chosen(earlier)} was its best." if earlier else "One run."}
- {"Then, from its best weights: " if earlier else "Stages: "}{_stages(config)}.
- Chosen by CIDEr-D on {chosen}: {_chosen(training)}, and the settings of the search."""


def _chosen(training: Mapping[str, Any]) -> str:
    stages = (training["config"][f"{name}epochs"] for name in ("", "fine_tune_", "self_critical_"))
    return f"epoch {training['epoch']['epoch']} of {sum(stages)}"


def _stages(config: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if epochs := config["epochs"]:
        parts.append(f"{epochs} epochs of the decoder on a frozen encoder, at {config['learning_rate']}")
    if epochs := config["fine_tune_epochs"]:
        parts.append(
            f"{epochs} epochs in which the encoder's last {config['tuned_stages']} stages learn too, at"
            f" {config['encoder_learning_rate']}, and the decoder at {config['fine_tune_learning_rate']}"
        )
    if epochs := config["self_critical_epochs"]:
        parts.append(f"{epochs} of self-critical training on CIDEr-D, {config['samples_per_image']} samples a photo")
    weighed = f"; {config['consensus']:.0%} of a caption's weight from consensus" if config.get("consensus") else ""
    return ", then ".join(parts) + weighed


def _scores(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[str] = []
    for split, values in metrics.items():
        scores = {name: value for name, value in values.items() if isinstance(value, float)}
        if not rows:
            rows = ["| split | photos | " + " | ".join(scores) + " |", "|---" * (len(scores) + 2) + "|"]
        shown = " | ".join(f"{value:.1f}" for value in scores.values())
        rows.append(f"| `{split}` ({values['use']}) | {values['photos']} | {shown} |")
    rows.append(
        "\nCOCO's metrics, times 100, of this bundle through OpenVINO, in fp32 where no other precision is named."
    )
    return "\n".join(rows)


def _samples(photos: Sequence[Photo], said: Mapping[int, str]) -> str:
    """Evenly spread, so that nobody picks the good ones."""
    chosen = photos[:: max(1, len(photos) // SAMPLES)][:SAMPLES]
    return "\n".join(f"- `{photo.path.name}`: {said[photo.image_id]}" for photo in chosen)
