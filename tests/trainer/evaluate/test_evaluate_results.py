import json
from pathlib import Path
from typing import Any

import pytest

from trainer.coco import Photo
from trainer.evaluate.results import ResultsError, read_results, write_per_image, write_results


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def result(image_id: Any, caption: Any = "a dog") -> dict[str, Any]:
    return {"image_id": image_id, "caption": caption}


def test_captions_come_back_as_they_were_written(tmp_path: Path) -> None:
    said = {3: "a café", 1: "", 2: 'two\n"dogs" \U0001f600'}
    write_results(tmp_path / "r.json", said)
    assert read_results(tmp_path / "r.json", [1, 2, 3], [1, 2, 3]) == said


def test_captions_of_images_that_are_not_wanted_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", [result(1), result(2), {**result(3), "score": 0.5}])
    assert read_results(path, [1, 2, 3], [3]) == {3: "a dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([result(1), result(2), result(3), result(2)], "two captions of image 2; it must have one of each"),
        ([result(1), result(3)], "no caption of 1 of the 3 images to score, first 2"),
        ([], "no caption of 3 of the 3 images to score, first 1"),
        ([result(n) for n in (1, 2, 3, 9, 8)], "captions 2 images that are not in the split, or not usable, first 8"),
        ([result("1")], "a result is {'image_id': '1', 'caption': 'a dog'}; it must look like"),
        ([result(True)], "a result is {'image_id': True"),
        ([result(1, None)], "'caption': None}; it must look like"),
        ([{"image_id": 1}], "a result is {'image_id': 1}; it must"),
        ([1], "a result is 1; it must"),
        ({"annotations": []}, "r.json holds a dict; COCO results are a list"),
        ("[", "r.json is not JSON"),
    ],
)
def test_results_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ResultsError) as refused:
        read_results(written(tmp_path / "r.json", content), [1, 2, 3], [1, 2, 3])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResultsError, match="r.json is not JSON"):
        read_results(tmp_path / "r.json", [1], [1])


def test_every_image_gets_a_line_of_all_that_is_known(tmp_path: Path) -> None:
    photos = [Photo(2, tmp_path / "b.jpg", ("a dog", "the dog")), Photo(1, tmp_path / "a.jpg", ("a cat",))]
    write_per_image(tmp_path / "lines", photos, {1: "cat", 2: "dog"}, {1: {"CIDEr-D": 0.5}, 2: {"CIDEr-D": 1.5}})
    assert [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()] == [
        {"image_id": 2, "file_name": "b.jpg", "caption": "dog", "references": ["a dog", "the dog"], "CIDEr-D": 1.5},
        {"image_id": 1, "file_name": "a.jpg", "caption": "cat", "references": ["a cat"], "CIDEr-D": 0.5},
    ]
