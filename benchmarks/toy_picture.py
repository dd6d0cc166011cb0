"""Draw docs/images/toy_scenes.png: scenes of the toy dataset, each with one of its captions.

python benchmarks/toy_picture.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rsbench.data.toy.make import make_toy

OUT = Path(__file__).parents[1] / "docs" / "images" / "toy_scenes.png"
SCENES, COLUMNS, ZOOM, GAP, TEXT = (1, 5, 9, 12, 18, 20, 22, 27, 34, 45), 5, 5, 18, 100


def main() -> None:
    """Draw and save."""
    made = make_toy(0, max(SCENES) + 1)
    side = made.images.shape[1] * ZOOM
    rows = -(-len(SCENES) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + GAP) + GAP, rows * (side + TEXT) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for place, index in enumerate(SCENES):
        x = GAP + place % COLUMNS * (side + GAP)
        y = GAP + place // COLUMNS * (side + TEXT)
        sheet.paste(Image.fromarray(made.images[index]).resize((side, side), Image.Resampling.NEAREST), (x, y))
        caption = made.captions[index][place % len(made.captions[index])].removesuffix(" .")
        draw.multiline_text((x, y + side + 4), textwrap.fill(caption, 30), fill="black", font=font, spacing=3)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(255).save(OUT, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
