"""Scored cases as one HTML page, patients before controls, the worst of each first."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from PIL import Image

from benchmarks.scoring.score import Result
from benchmarks.scoring.summary import leakage
from tumour_segmenter.folders import counted

HIT, EXTRA, MISSED = (22, 163, 74), (220, 38, 38), (37, 99, 235)  # green, red, blue

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Scored cases, worst first</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }}
body {{ margin: 1.5rem }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1.2rem }}
figure {{ margin: 0 }}
figcaption b {{ float: right }}
.pair {{ position: relative; background: #fff }}
.pair img {{ display: block; width: 100%; image-rendering: pixelated }}
.pair img + img {{ position: absolute; inset: 0 }}
#masks:not(:checked) ~ main img + img {{ visibility: hidden }}
.hit {{ color: rgb{hit} }} .extra {{ color: rgb{extra} }} .missed {{ color: rgb{missed} }}
</style>
<h1>{heading}</h1>
<p>{known}</p>
<input type="checkbox" id="masks" checked><label for="masks">show masks:</label>
<b class="hit">■ true positive</b> <b class="extra">■ false positive</b>
<b class="missed">■ false negative</b>
<p>Research software, not a medical device.</p>
<main>
{figures}
</main></html>
"""

FIGURE = """<figure>
<div class="pair"><img src="{image}" alt=""><img src="{overlay}" alt="{words}"></div>
<figcaption>{name} <b>{dice:.3f}</b><br><small>{words}</small></figcaption></figure>"""


def page(results: list[Result], trained_on: frozenset[str] | None = None) -> str:
    """The whole page. Reads the cases' images again, so that scoring need not keep them.

    trained_on: hashes of the images that the model was trained on, None where it does not say.
    """
    patients = [result for result in results if result.case.group == "patient"]
    heading = counted(len(results), "case")
    if patients:
        heading += f", mean Dice of patients {np.mean([r.dice for r in patients]):.4f}"
    ordered = sorted(results, key=lambda of: (of.case.group != "patient", of.dice))
    return PAGE.format(
        hit=HIT,
        extra=EXTRA,
        missed=MISSED,
        heading=heading,
        known=leakage(patients, trained_on),
        figures="\n".join(map(figure, ordered)),
    )


def figure(result: Result) -> str:
    """One case: the image, over it the transparent picture of right and wrong pixels."""
    pixels, true = result.case.read()
    marked = result.mask > 0
    kinds = np.where(marked, np.where(true, 1, 2), np.where(true, 3, 0)).astype(np.uint8)
    found, extra, missed = (int((kinds == kind).sum()) for kind in (1, 2, 3))
    words = f"{found} px true positive, {extra} false positive, {missed} false negative"
    overlay = Image.fromarray(kinds)
    overlay.putpalette((0, 0, 0, *HIT, *EXTRA, *MISSED))
    return FIGURE.format(
        image=data_url(Image.fromarray(pixels)),
        overlay=data_url(overlay, transparency=bytes([0, 200, 200, 200])),
        name=html.escape(result.case.name),
        words=html.escape(f"{words}. {result.fault}" if result.fault else words),
        dice=result.dice,
    )


def data_url(image: Image.Image, **options: object) -> str:
    png = io.BytesIO()
    image.save(png, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
