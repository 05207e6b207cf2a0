"""SPICE (Anderson et al. 2016) by its authors' Java program. Untested here: it needs models that nobody may ship.

pycocoevalcap would download them unasked; here they must be in place, and nothing is fetched.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pycocoevalcap.spice import spice as program

from trainer.evaluate.meteor import has_java

MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
ARCHIVE = "stanford-corenlp-full-2015-12-09.zip"
LIBRARY = Path(program.__file__).parent / "lib"


class SpiceError(OSError):
    """What SPICE needs and does not find."""


def check_spice(library: Path = LIBRARY) -> None:
    """Raise SpiceError unless all is there that SPICE needs."""
    missing = [name for name in MODELS if not (library / name).is_file()]
    if missing:
        raise SpiceError(
            f"SPICE needs {' and '.join(missing)} in {library}; they are in {ARCHIVE} of nlp.stanford.edu/software"
        )
    if not has_java():
        raise SpiceError("SPICE needs Java, which is not on the PATH")


def spice(references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, str]) -> float:
    """Of tokenized captions, from 0 to 1; raises SpiceError."""
    check_spice()
    right = {image_id: list(texts) for image_id, texts in references.items()}
    return float(program.Spice().compute_score(right, {image_id: [text] for image_id, text in hypotheses.items()})[0])
