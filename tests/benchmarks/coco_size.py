"""A data set of COCO's size that costs next to nothing: links to drawn pictures, drawn captions, empty features."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trainer.coco import Photo
from trainer.config import TrainConfig, preprocessing_of
from trainer.drawing import draw_scene
from trainer.features import FeatureCache, cache_key, create_arrays, views_of, write_index
from trainer.learner import Learner
from trainer.train import build_model

PHOTOS, CAPTIONS, VAL_PHOTOS = 118_287, 591_753, 100
WIDTH, HEIGHT = 640, 480
"""As most of COCO's photos."""
LINKS_PER_FILE = 30_000
"""A file system limits how many names a file has."""
RARE_WORDS = [
    f"{a}{b}{c}{d}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst" for d in ("an", "el", "ow")
]


def make_data(data: Path) -> None:
    """`train2017` with as many photos and captions as COCO has, and a small `val2017`."""
    for split, photos, captions in (("train2017", PHOTOS, CAPTIONS), ("val2017", VAL_PHOTOS, VAL_PHOTOS * 5)):
        annotations = data / "annotations" / f"captions_{split}.json"
        if not annotations.exists():
            annotations.parent.mkdir(parents=True, exist_ok=True)
            (data / split).mkdir(exist_ok=True)
            images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(photos)]
            _link_photos(data / split, [image["file_name"] for image in images])
            said = [
                {"id": i, "image_id": i % photos, "caption": text}
                for i, text in zip(range(captions), _captions(split), strict=False)
            ]
            annotations.write_text(json.dumps({"images": images, "annotations": said}))


def _link_photos(folder: Path, names: list[Any]) -> None:
    for begin in range(0, len(names), LINKS_PER_FILE):
        first, *others = (folder / name for name in names[begin : begin + LINKS_PER_FILE])
        first.unlink(missing_ok=True)
        draw_scene(random.Random(begin), WIDTH)[0].crop((0, 0, WIDTH, HEIGHT)).save(first, "JPEG")
        for other in others:
            other.unlink(missing_ok=True)
            os.link(first, other)


def _captions(seed: str) -> Iterator[str]:
    """What is said of drawn pictures, with rarer words strewn in until the vocabulary is as large as a real one's."""
    rng = random.Random(seed)
    scenes = [caption for i in range(200) for caption in draw_scene(random.Random(i), 64)[1]]
    while True:
        words = rng.choice(scenes).split()
        rare = [RARE_WORDS[int(rng.paretovariate(0.5)) % len(RARE_WORDS)] for _ in range(4)]
        yield f"{' '.join([*words, *rare]).capitalize()}."


def make_features(config: TrainConfig, photos: Sequence[Photo], run: Path) -> FeatureCache:
    """The cache that a run in the folder `run` looks for, of zeros: files with holes, that take no room on the disk."""
    preprocessing = preprocessing_of(config)
    learner = Learner(build_model(config, 10, preprocessing))
    views = views_of(config.mirror)
    folder = run / "features" / cache_key(photos, learner.trunk, preprocessing, views)
    if not folder.exists():
        folder.mkdir(parents=True)
        shape = learner.features(torch.zeros(1, config.image_size, config.image_size, 3, dtype=torch.uint8)).shape[1:]
        create_arrays(folder, views, (len(photos), *shape))
        write_index(folder, views, {})
    return FeatureCache(folder, photos)


def make_encoder_weights(backbone: str, path: Path) -> Path:
    """Random weights for an encoder, as a file: the same in every process."""
    if not path.exists():
        torch.manual_seed(0)
        config = TrainConfig(backbone=backbone, encoder_weights="random")
        model = build_model(config, 10, preprocessing_of(config))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.encoder.backbone.state_dict(), path)
    return path
