"""The photos of a report: what the model said of each, what people said, and where it looked at every word."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from PIL import Image

from shared.image import Resize, read_image
from trainer.coco import FILE_LIMITS
from trainer.report.attention_maps import data_uri, light_up, shrunk
from trainer.report.gallery import Captioned, Gallery
from trainer.report.markup import element

PHOTO_SIDE, PHOTO_QUALITY = 448, 75
MAP_SIDE, MAP_QUALITY = 112, 60
LEGEND = (
    "In grey, what people wrote. Below each photo, where the model looked as it said each word: in colour where it "
    "looked most, dim where it did not; and how probable the word was after those before it."
)
CROPPED = " It sees the central square alone; what lies beside that is dim throughout."


def photo_sections(gallery: Gallery, resize: Resize) -> list[Element]:
    """The best, the worst and some others, each with a sentence on how it was chosen."""
    about = (
        f"Chosen from {gallery.total} photos of {gallery.split} by the CIDEr-D of each; over all of them it is "
        f"{gallery.cider:.1f}. "
    )
    groups = (
        ("The best", "The highest CIDEr-D, the highest first.", gallery.best),
        ("The worst", "The lowest CIDEr-D, the lowest first.", gallery.worst),
        ("Evenly spread", "Every so many of the others, whatever their score.", gallery.spread),
    )
    sections = [element("p", about + LEGEND + (CROPPED if resize == "crop" else ""))]
    for title, how, chosen in groups:
        if chosen:
            sections += [element("h3", title), element("p", how, class_="note")]
            sections += [_card(item, resize) for item in chosen]
    return sections


def _card(item: Captioned, resize: Resize) -> Element:
    photo = read_image(item.photo.path.read_bytes(), FILE_LIMITS)
    facts = f"CIDEr-D {item.cider:.1f}, log-probability {item.log_prob:.2f}, photo {item.photo.path.name}"
    references = [element("li", text) for text in item.photo.captions]
    return element(
        "article",
        _image(shrunk(photo, PHOTO_SIDE), PHOTO_QUALITY, item.caption),
        element(
            "div",
            element("p", item.caption, class_="caption"),
            element("p", facts, class_="facts"),
            element("ul", *references, class_="references"),
        ),
        element("ol", *_words(item, shrunk(photo, MAP_SIDE), resize), class_="words"),
    )


def _words(item: Captioned, small: Image.Image, resize: Resize) -> Sequence[Element]:
    drawn = []
    for word, probability, grid in zip(item.words, item.probabilities, item.attention, strict=True):
        picture = _image(light_up(small, grid, resize), MAP_QUALITY, f"where the model looked for “{word}”")
        caption = element("figcaption", word, " ", element("small", percent(probability)))
        drawn.append(element("li", element("figure", picture, caption)))
    return drawn


def _image(image: Image.Image, quality: int, text: str) -> Element:
    width, height = image.size
    return element("img", src=data_uri(image, quality), alt=text, width=str(width), height=str(height))


def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"
