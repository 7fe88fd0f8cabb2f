"""The page of tables and the plot of what was measured out of fold."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from serve import files

COMMAND = "python -m train.out_of_fold --weights artifacts/weights --data DIR --out artifacts"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers, which all columns but the first hold, stand to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _with_interval(pair: Sequence) -> str:
    value, (low, high) = pair
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def dice_text(point: dict[str, float]) -> str:
    """Of an operating point: the mean with its standard error."""
    return f"{point['dice']:.4f} ± {point['dice_standard_error']:.4f}"


def as_markdown(content: dict) -> str:
    """content: what results.collect gives."""
    figures, default = content["figures"], content["operating_point"]
    froc = content["froc"]["operating_points"]
    points = content["operating_points"]

    def percent(share: float | None) -> str:
        return "" if share is None else f"{share:.1%}"

    def wrong(row: dict[str, float], group: str) -> str:
        rate = row.get(f"per_image_of_{group}")
        return "" if rate is None else f"{rate:.2f}"

    hausdorff = [
        ["95 % Hausdorff distance, median in pixels", f"{median} ({n} patients)"]
        for median, n in filter(None, [figures["hausdorff_95_median"]])
    ]
    parts = [
        "# Out-of-fold results",
        f"`{COMMAND}` writes this page, version {content['version']}, commit "
        f"{content['measuring_commit']}.",
        f"{figures['patients']} patients and {len(content['controls'])} controls. Each image is "
        "predicted by networks that were not trained on it, in float32, image and mirror image "
        "averaged. Calibration and operating points are nested: fitted on the other folds. "
        "An ensemble of all networks has no out-of-fold figure. Intervals are 95 % bootstrap "
        "intervals over patients.",
        f"## At the default operating point, {default}",
        _table(
            ["figure", "value"],
            [
                ["Dice, mean", _with_interval(figures["dice"])],
                ["Dice, mean ± standard error", dice_text(points[default])],
                ["Dice, median", figures["dice_median"]],
                ["failures (Dice < 0.1)", figures["failures"]],
                ["per-lesion sensitivity", _with_interval(figures["lesion_sensitivity"])],
                [
                    "false-positive lesions per patient",
                    _with_interval(figures["false_positive_lesions_per_patient"]),
                ],
                *hausdorff,
            ],
        ),
        _table(
            ["fold", "patients", "Dice", "standard error"],
            [[f, n, f"{d:.4f}", f"{e:.4f}"] for f, (d, e, n) in content["dice_by_fold"].items()],
        ),
        _table(
            ["lesions by pixels", "lesions", "sensitivity"],
            [[k, n, f"{s:.3f}"] for k, (s, n) in figures["lesion_sensitivity_by_pixels"].items()],
        ),
        "## Operating points",
        "The share of controls with an empty mask (specificity) defines them. "
        "False-positive lesions are counted per image. [Plot](out_of_fold.png).",
        _table(
            [
                "name", "minimum probability", "Dice", "specificity", "lesion sensitivity",
                "false positives: patients", "controls",
            ],
            [
                [
                    name, f"{p['minimum_probability']:g}", dice_text(p),
                    percent(p.get("specificity")), f"{froc[name]['sensitivity']:.3f}",
                    *(wrong(froc[name], group) for group in ("patients", "controls")),
                ]
                for name, p in points.items()
            ],
        ),
    ]  # fmt: skip
    if content["tricky_controls"]:
        parts += [
            "Tumour pixels in the controls that the challenge calls tricky:",
            _table(
                ["control", "why", *points],
                [[name, why, *p.values()] for name, (why, p) in content["tricky_controls"].items()],
            ),
        ]
    parts += [
        "## Robustness",
        "Mean Dice that patients lose by a change of the image, at the default operating point. "
        "Rotations turn the truth as well.",
        _table(
            ["variant", "Dice lost", "standard error"],
            [
                [name, f"{lost:.4f}", f"{e:.4f}"]
                for name, (lost, e) in content["robustness"].items()
            ],
        ),
    ]
    if content["averaging"]:
        parts += [
            "## Averaging",
            "The average of all seeds, judged at the operating point that is fitted on one seed.",
            _table(
                ["seed", "its Dice", "the average gains", "standard error"],
                [[s, *(f"{x:.4f}" for x in row)] for s, row in content["averaging"].items()],
            ),
        ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def plot(content: dict, path: Path) -> None:
    """The FROC curve over thresholds of the probability, with the operating points."""
    froc, figure = content["froc"], Figure(figsize=(6, 4))
    axes = figure.subplots()
    for group, colour in (("patients", "tab:blue"), ("controls", "tab:orange")):
        key = f"per_image_of_{group}"
        curve = [
            (row[key], row["sensitivity"]) for row in froc["thresholds"].values() if key in row
        ]
        if not curve:
            continue
        axes.plot(*zip(*curve, strict=True), ".-", color=colour, label=f"one threshold, {group}")
        for name, row in froc["operating_points"].items():
            axes.plot(row[key], row["sensitivity"], "D", color=colour)
            axes.annotate(name, (row[key], row["sensitivity"]), fontsize=8)
    axes.set(xlabel="false-positive lesions per image", ylabel="per-lesion sensitivity")
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, dpi=80, format="png", bbox_inches="tight")
    files.write(path, image.getvalue())
