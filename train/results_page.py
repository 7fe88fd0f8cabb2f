"""The page of tables of what was measured out of fold."""

from collections.abc import Sequence

COMMAND = "python -m train.out_of_fold --weights artifacts/weights --data DIR --out artifacts"


def _section(text: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A text and its Markdown table, nothing where that has no rows."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    table = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    return [part for part in (text, table) if part and rows]


def _with_interval(pair: Sequence) -> str:
    value, (low, high) = pair
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def dice_text(point: dict[str, float]) -> str:
    """Of an operating point: the mean with its standard error."""
    return f"{point['dice']:.4f} ± {point['dice_standard_error']:.4f}"


def _operating_point(name: str, point: dict[str, float], froc: dict[str, float]) -> list[str]:
    """A row of the table; without controls, what they would give is empty."""
    specificity = f"{point['specificity']:.1%}" if "specificity" in point else ""
    rates = [froc.get(f"per_image_of_{group}") for group in ("patients", "controls")]
    return [
        name, f"{point['minimum_probability']:g}", dice_text(point), specificity,
        f"{froc['sensitivity']:.3f}", *("" if rate is None else f"{rate:.2f}" for rate in rates),
    ]  # fmt: skip


def as_markdown(content: dict) -> str:
    """content: what out_of_fold.collect gives."""
    figures, default = content["figures"], content["operating_point"]
    froc, points = content["froc"]["operating_points"], content["operating_points"]
    wrong = figures["false_positive_lesions_per_patient"]
    rows = [
        ["Dice, mean", _with_interval(figures["dice"])],
        ["Dice, mean ± standard error", dice_text(points[default])],
        ["Dice, median", figures["dice_median"]],
        ["failures (Dice < 0.1)", figures["failures"]],
        ["per-lesion sensitivity", _with_interval(figures["lesion_sensitivity"])],
        ["false-positive lesions per patient", _with_interval(wrong)],
    ]
    if figures["hausdorff_95_median"]:
        median, patients = figures["hausdorff_95_median"]
        rows += [["95 % Hausdorff distance, median in pixels", f"{median} ({patients} patients)"]]
    parts = [
        "# Out-of-fold results",
        f"`{COMMAND}` writes this page, version {content['version']}, commit "
        f"{content['measuring_commit']}.",
        f"{figures['patients']} patients and {len(content['controls'])} controls. Each image is "
        "predicted by networks that were not trained on it, in float32, image and mirror image "
        "averaged. Calibration and operating points are nested: fitted on the other folds. "
        "An ensemble of all networks has no out-of-fold figure. Intervals are 95 % bootstrap "
        "intervals over patients.",
        *_section(f"## At the default operating point, {default}", ["figure", "value"], rows),
        *_section(
            "",
            ["fold", "patients", "Dice", "standard error"],
            [[f, n, f"{d:.4f}", f"{e:.4f}"] for f, (d, e, n) in content["dice_by_fold"].items()],
        ),
        *_section(
            "",
            ["lesions by pixels", "lesions", "sensitivity"],
            [[k, n, f"{s:.3f}"] for k, (s, n) in figures["lesion_sensitivity_by_pixels"].items()],
        ),
        "## Operating points",
        *_section(
            "The share of controls with an empty mask (specificity) defines them. "
            "False-positive lesions are counted per image. [Plot](out_of_fold.png).",
            [
                "name", "minimum probability", "Dice", "specificity", "lesion sensitivity",
                "false positives: patients", "controls",
            ],
            [_operating_point(name, point, froc[name]) for name, point in points.items()],
        ),
        *_section(
            "Tumour pixels in the controls that the challenge calls tricky:",
            ["control", "why", *points],
            [[name, why, *p.values()] for name, (why, p) in content["tricky_controls"].items()],
        ),
        "## Robustness",
        *_section(
            "Mean Dice that patients lose by a change of the image, at the default operating "
            "point. Rotations turn the truth as well.",
            ["variant", "Dice lost", "standard error"],
            [[name, f"{d:.4f}", f"{e:.4f}"] for name, (d, e) in content["robustness"].items()],
        ),
        *_section(
            "## Averaging\n\n"
            "The average of all seeds, judged at the operating point that is fitted on one seed.",
            ["seed", "its Dice", "the average gains", "standard error"],
            [[s, *(f"{x:.4f}" for x in row)] for s, row in content["averaging"].items()],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
