"""Draws the way of an image, and that of the model, as SVG: docs/pipeline.svg."""

from __future__ import annotations

from xml.sax.saxutils import escape

BOX_WIDTH, BOX_HEIGHT, GAP, LINE = 172, 104, 24, 16
MARGIN, ROW_GAP, FRAME = 16, 74, 12

# Each box: title and lines. What stands in FRAMED is inside the model file.
SERVING = (
    ("PNG", "grey pixels,", "dark is high uptake"),
    ("Clean", "impulse noise removed,", "orientation normalised,", "air beside body cut"),
    ("Networks", "half of them on the", "image, half mirrored,", "mean of the logits"),
    ("Detail", "outlines at full", "resolution, rows of a", "slice averaged"),
    ("Mask, probability", "calibrated, threshold of", "largest expected Dice,", "operating point"),
    ("PNG", "255 is tumour,", "0 is not"),
)
FRAMED = range(1, 5)
TRAINING = (
    ("Patients, controls", "projections and labels,", "split by patient"),
    ("Augmentation", "lesions transplanted", "onto controls, shapes", "and intensities varied"),
    ("Cross-validation", "one model a fold, judged", "on patients it has", "not seen"),
    ("Export", "ensemble, 8 bits,", "checked against", "PyTorch"),
)
STYLE = """
  text { font: 12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #15202b }
  .title { font-size: 13px; font-weight: 700 } .part { fill: #fff; stroke: #9fb0bd }
  .ground { fill: #f2f5f7 } .frame { fill: #e3f0f2; stroke: #0d6e7f; stroke-dasharray: 5 4 }
  .arrow { stroke: #0d6e7f; stroke-width: 2; fill: none; marker-end: url(#head) }
  #head path { fill: #0d6e7f } .note { fill: #0d6e7f; font-weight: 700 }
"""


def pipeline() -> str:
    """Return the way of an image, and that of the model, as SVG."""
    width = 2 * MARGIN + len(SERVING) * (BOX_WIDTH + GAP) - GAP
    upper = MARGIN + 30
    lower = upper + BOX_HEIGHT + ROW_GAP
    height = lower + BOX_HEIGHT + MARGIN
    frame = (
        f'<rect class="frame" rx="10" x="{_left(FRAMED[0]) - FRAME}" y="{upper - FRAME}" '
        f'width="{len(FRAMED) * (BOX_WIDTH + GAP) - GAP + 2 * FRAME}" '
        f'height="{BOX_HEIGHT + 2 * FRAME}"/>'
    )
    middle = _left(FRAMED[-1]) + BOX_WIDTH / 2 - 2 * FRAME
    first = 1  # the training's boxes stand below the networks that they make
    parts = [
        f'<rect class="ground" width="{width}" height="{height}"/>',
        frame,
        _text(_left(FRAMED[0]), upper - FRAME - 8, "model.onnx: pixels in, mask out", "note"),
        *_row(SERVING, 0, upper),
        _text(_left(0), lower + BOX_HEIGHT / 2, "Training", "note"),
        *_row(TRAINING, first, lower),
        f'<path class="arrow" d="M{middle} {lower} V{upper + BOX_HEIGHT + FRAME + 8}"/>',
    ]
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        "<title>From an image to its mask, and from patients to the model</title>\n"
        f"<style>{STYLE}</style>\n<defs>{head}</defs>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _left(column: int) -> int:
    return MARGIN + column * (BOX_WIDTH + GAP)


def _row(boxes: tuple[tuple[str, ...], ...], first: int, top: int) -> list[str]:
    parts = []
    for column, (title, *lines) in enumerate(boxes, first):
        left = _left(column)
        parts.append(
            f'<rect class="part" rx="8" x="{left}" y="{top}" width="{BOX_WIDTH}" '
            f'height="{BOX_HEIGHT}"/>'
        )
        parts.append(_text(left + 10, top + 24, title, "title"))
        parts += [_text(left + 10, top + 48 + LINE * i, line) for i, line in enumerate(lines)]
        if column > first:
            parts.append(
                f'<path class="arrow" d="M{left - GAP} {top + BOX_HEIGHT / 2:g} h{GAP - 2}"/>'
            )
    return parts


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{f" class={kind!r}" if kind else ""}>{escape(text)}</text>'
