"""report.html: one page that needs no other file and no network."""

from __future__ import annotations

import base64
from html import escape

from .report import NOT_MEDICAL

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Tumour report</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }}
main {{ display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }}
figure {{ margin: 0; }} svg {{ width: 400px; max-width: 100%; height: auto; background: #fff; }}
svg text {{ font: bold 11px system-ui, sans-serif; fill: #a00070; stroke: #fff; stroke-width: 3px;
 paint-order: stroke; }}
section {{ flex: 1 1 22rem; min-width: 0; overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8886; }}
thead th, td {{ text-align: right; }} tbody th {{ text-align: left; font-weight: normal; }}
.facts td {{ text-align: left; }} .warning {{ border-left: 4px solid #d80; padding-left: .8rem; }}
footer {{ margin-top: 2rem; opacity: .8; }}
</style></head><body>
<h1>Tumour mask of a PET projection</h1>
<main>
<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{alt}">
<image width="{width}" height="{height}" href="data:image/png;base64,{picture}"/>{numbers}</svg>
<figcaption>{caption}</figcaption></figure>
<section>
{warnings}
<h2>Totals</h2><table class="facts"><tbody>{totals}</tbody></table>
<h2>Lesions</h2>{lesions}
<h2>Where it comes from</h2><table class="facts"><tbody>{facts}</tbody></table>
</section></main>
<footer>{about}</footer>
</body></html>
"""


def page(said: dict, overlay: bytes) -> str:
    """Return the page of a report as `scan.report` makes it, with the picture, a PNG."""
    count = said["totals"]["lesions"]
    black = said["mip"]["suv_black"]
    about = (
        f"{NOT_MEDICAL} The picture is a projection from front to back: an area in it is no volume,"
        " and a lesion behind another is not seen. The patient's left is on the right."
    )
    return PAGE.format(
        alt=f"projection with {count} marked lesions",
        width=said["mip"]["shape"][1],
        height=said["mip"]["shape"][0],
        numbers=_numbers(said["lesions"], said["mip"]["pixel_mm"]),
        picture=base64.b64encode(overlay).decode(),
        caption=f"White is SUV 0, black is {black:g} and more, pink is the mask.",
        warnings="".join(f'<p class="warning">{escape(w)}</p>' for w in said["warnings"]),
        totals=_facts(_totals(said["totals"])),
        lesions=_lesions(said["lesions"]) if count else "<p>None was found.</p>",
        facts=_facts(_origin(said)),
        about=about,
    )


def _numbers(lesions: list[dict], pixel_mm: list[float]) -> str:
    """The number of each lesion, at the lower right of it."""
    marks = []
    for lesion in lesions:
        radius = (lesion["area_mm2"] / 3.14) ** 0.5
        y, x = (
            (mm + radius) / size for mm, size in zip(lesion["centroid_mm"], pixel_mm, strict=True)
        )
        marks.append(f'<text x="{x:.0f}" y="{y + 6:.0f}">{lesion["id"]}</text>')
    return "".join(marks)


def _facts(facts: dict[str, str]) -> str:
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items() if v)
    return "".join(rows)


def _totals(totals: dict) -> dict[str, str]:
    highest = totals["suv_max"]
    return {
        "Lesions": str(totals["lesions"]),
        "Projected area": f"{totals['projected_area_cm2']:.1f} cm²",
        "Largest distance between lesions": f"{totals['dmax_mm']:.0f} mm",
        "Highest SUV in a lesion": "" if highest is None else f"{highest:.1f}",
    }


def _lesions(lesions: list[dict]) -> str:
    heads = ["", "area, mm²", "SUV max", "SUV mean", "from top, mm", "from left, mm"]
    known = any("probability" in lesion for lesion in lesions)
    heads += ["probability"] * known
    rows = []
    for lesion in lesions:
        down, right = lesion["centroid_mm"]
        cells = [
            f"{lesion['area_mm2']:.0f}",
            f"{lesion['suv_max']:.1f}",
            f"{lesion['suv_mean']:.1f}",
            f"{down:.0f}",
            f"{right:.0f}",
        ]
        if known:
            cells.append(f"{lesion['probability']['highest']:.2f}")
        cells = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr><th>{lesion['id']}</th>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _origin(said: dict) -> dict[str, str]:
    series, suv, model = said["series"], said["suv"], said["model"]
    minutes = suv["uptake_minutes"]
    return {
        "Series": series.get("description", ""),
        "Date": series.get("date", ""),
        "Scanner": series.get("scanner", ""),
        "Series Instance UID": series.get("series_uid", ""),
        "Volume": "×".join(map(str, series["matrix"]))
        + " voxels of "
        + "×".join(f"{mm:g}" for mm in series["spacing_mm"])
        + " mm",
        "SUV": f"{suv['rule']}; factor {suv['factor']:.6g}",
        "Injection to scan": "" if minutes is None else f"{minutes:.0f} minutes",
        "Model": f"{model['name']} {model['version'] or ''} {(model['hash'] or '')[:16]}".strip(),
        "Operating point": model["operating_point"] or "",
    }
