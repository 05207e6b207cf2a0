"""Real files of every type, and what may happen to one on its way."""

import random

from PIL import Image

from tests.shared.image_files import TYPES, encode, quarters, with_alpha


def seeds() -> list[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [with_alpha("RGB"), quarters()]
    plain = [(kind, encode(quarters(), kind, **options)) for kind, options in TYPES.items()]
    return [
        *plain,
        ("JPEG", encode(quarters(), "JPEG", progressive=True, exif=exif)),
        ("JPEG", encode(quarters().convert("CMYK"), "JPEG")),
        ("PNG", encode(quarters().quantize(4), "PNG", transparency=1)),
        ("PNG", encode(quarters(), "PNG", exif=exif, icc_profile=b"nonsense")),
        ("WEBP", encode(with_alpha("RGBA"), "WEBP", exif=exif)),
        ("WEBP", encode(quarters(), "WEBP", save_all=True, append_images=frames)),
        ("GIF", encode(quarters(), "GIF", save_all=True, append_images=frames, comment=b"a comment")),
        ("BMP", encode(quarters().convert("P"), "BMP")),
        ("TIFF", encode(quarters(), "TIFF", compression="tiff_lzw")),
        ("TIFF", encode(quarters(), "TIFF", compression="jpeg")),
        ("TIFF", encode(quarters(), "TIFF", compression="tiff_deflate", save_all=True, append_images=frames)),
        ("TIFF", encode(quarters().convert("F"), "TIFF")),
        ("TIFF", encode(quarters(), "TIFF", big_tiff=True)),
        ("AVIF", encode(with_alpha("RGBA"), "AVIF", exif=exif)),
        ("AVIF", encode(quarters(), "AVIF", save_all=True, append_images=frames)),
        ("HEIF", encode(with_alpha("RGBA"), "HEIF", exif=exif.tobytes())),
    ]


SEEDS = seeds()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One to five wounds, half of them among the first 64 bytes: headers are where the interesting damage is."""
    wounded = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(max(1, min(64, len(wounded)) if chance.random() < 0.5 else len(wounded)))
        kind = chance.choice(("flip", "byte", "number", "cut", "drop", "repeat", "splice"))
        if kind == "flip" and wounded:
            wounded[at] ^= 1 << chance.randrange(8)
        elif kind == "byte" and wounded:
            wounded[at] = chance.choice((0, 1, 127, 128, 255))
        elif kind == "number":
            value, order = (
                chance.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)),
                chance.choice(("big", "little")),
            )
            wounded[at : at + 4] = value.to_bytes(4, "big" if order == "big" else "little")
        elif kind == "cut":
            del wounded[at:]
        elif kind == "drop":
            del wounded[at : at + chance.randint(1, 40)]
        elif kind == "repeat":
            piece = wounded[at : at + chance.randint(1, 40)]
            wounded[at:at] = piece * chance.randint(1, 200)
        elif kind == "splice":
            _, other = chance.choice(SEEDS)
            start = chance.randrange(len(other))
            wounded[at:at] = other[start : start + chance.randint(1, 400)]
    return bytes(wounded)
