"""What the OpenAPI document shows: a body of each kind, and a sentence for each error."""

import json
from collections.abc import Mapping
from typing import Any

CAPTION: dict[str, Any] = {
    "caption": "a black dog is running through the water",
    "log_probability": -8.212,
    "candidates": [
        {"caption": "a black dog is running through the water", "log_probability": -8.212},
        {"caption": "a black dog runs through the water", "log_probability": -8.574},
    ],
    "model": {"name": "flickr8k-default", "version": "20261125T023021Z-100e9a24"},
    "timing": {"decode_ms": 2.438, "queue_ms": 0.06, "encode_ms": 11.598, "beam_search_ms": 24.108, "total_ms": 38.725},
}
MODEL: dict[str, Any] = {
    "name": "flickr8k-default",
    "version": "20261125T023021Z-100e9a24",
    "source": "embedded",
    "note": "No CAPTION_MODEL is set: this is the small model that comes with the service.",
    "architecture": {"backbone": "tf_efficientnet_lite2", "decoder": "updown", "hidden_size": 512},
    "vocabulary_size": 2659,
    "preprocessing": {"size": 288, "resize": "squash", "mean": [127, 127, 127], "std": [128, 128, 128]},
    "decode": {"beam_size": 5, "max_length": 20, "length_penalty": 0.7},
    "training": {"config": {"train": ["flickr8k/train"]}, "revision": "514169c8e8877d402fa6b31d43b8cd4f1217a08c"},
    "metrics": {"flickr8k/val": {"photos": 1000, "CIDEr-D": 60.8}},
    "licence": "For non-commercial research only.",
    "engine": "openvino",
    "precision": "int8",
    "device": "cpu",
    "last_failed_reload": None,
}
RELOAD: dict[str, Any] = {
    "outcome": "success",
    "model": {"name": "flickr8k-default", "version": "20261125T023021Z-100e9a24"},
    "complaint": None,
}
METRICS = """# HELP caption_queue_depth Pictures that are decoded or wait for a batch.
# TYPE caption_queue_depth gauge
caption_queue_depth 3.0
"""
MESSAGES: Mapping[str, str] = {
    "address_refused": "pictures are fetched by https:// alone",
    "bad_parameter": "n is 4, but a beam of size 2 finds at most 2",
    "deadline_exceeded": "no answer within 30 s",
    "decode_timeout": "the picture was not decoded within 10 s",
    "draining": "the service is shutting down",
    "empty_image": "the image is empty: zero bytes",
    "internal": "something went wrong inside the service; its log says more",
    "invalid_image": "the bytes give no picture",
    "no_attention": "this model looks once, at the whole picture, so there is nothing to explain",
    "no_model": "Model with name other does not exist.",
    "no_image": "the form has 0 fields 'file' (its fields: none); send one picture, as the field \"file\"",
    "not_a_volume": "the model does not come from a volume, so there is nothing to reload",
    "queue_full": "128 pictures are waiting; come back in 3 s",
    "rate_limited": "more than 5 requests per second; come back in 1 s",
    "slow_body": "the body did not end within 30 s",
    "too_large": "the JPEG is 13000 x 13000: over the limit of 50000000 pixels or a side of 30000",
    "unauthorized": "this key is not known here",
    "unavailable": "the service is shutting down",
    "undecodable_image": "the 51234 bytes of this JPEG are broken, cut off, or of a variant that is not read",
    "unreachable_address": "no picture could be fetched from img.example: it answered with status 404",
    "unsupported_image": "the data starts with b'%PDF-1.7'; the types read are JPEG, PNG, WEBP",
    "unsupported_media_type": "application/pdf is not taken here",
    "worker_dead": "a worker thread has ended",
}
ITEM: dict[str, Any] = {"index": 0, "name": "a.jpg", "status": 200, **CAPTION}
ERROR_ITEM: dict[str, Any] = {
    "index": 1,
    "name": "b.jpg",
    "status": 422,
    "error": {"code": "undecodable_image", "message": MESSAGES["undecodable_image"]},
}
CAPTIONS: dict[str, Any] = {"results": [ITEM, ERROR_ITEM]}
LINES = f"{json.dumps(ITEM)}\n{json.dumps(ERROR_ITEM)}\n"
TABLE = """"index","name","status","caption","log_probability","error_code","error_message"
0,"a.jpg",200,"a black dog is running through the water",-8.212,"",""
1,"b.jpg",422,"","","undecodable_image","the 51234 bytes of this JPEG are broken"
"""
ERROR = {"error": {"code": "queue_full", "message": MESSAGES["queue_full"]}}


def errors_of(codes: list[str]) -> dict[str, Any]:
    """The examples of a status that has these codes."""
    return {code: {"value": {"error": {"code": code, "message": MESSAGES.get(code, code)}}} for code in codes}
