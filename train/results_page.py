"""The page of tables of what was measured out of fold."""

from collections.abc import Sequence

COMMAND = "python -m train.out_of_fold --weights artifacts/weights --data DIR --out artifacts"
FORMS = {
    "dice": ".3f",
    "lesion_sensitivity": ".1%",
    "false_lesions_per_patient": ".2f",
    "specificity": ".1%",
    "false_lesions_per_control": ".2f",
}
"""Figures of an operating point that the page shows, and how they are written."""
LOCKED = {
    "dice_median": "Dice, median",
    "dice_lowest": "Dice, lowest",
    "patients_emptied": "patients with an empty mask",
    "lesion_sensitivity": "lesion sensitivity",
    "false_lesions_per_patient": "false-positive lesions per patient",
    "specificity": "specificity",
}
"""Figures on the locked test set that the page shows."""
OPERATING_POINTS = """\
An operating point is two numbers. The mask is empty where fewer than 100 pixels exceed the \
minimum probability (the network's own, uncalibrated). Otherwise it holds what is above the \
image's threshold, that of the largest expected Dice, times the threshold factor. Lesion \
sensitivity is the share of lesions of which the mask has a pixel, specificity the share of \
healthy people whose mask is empty.

- **sensitive** finds 80 % of the lesions and empties no mask: for those who look at every mark.
- **balanced**, the default, empties as many healthy masks as no patient pays for, with a margin.
- **specific** empties 80 % of the healthy masks."""
LIMITS = """\
## What these figures leave out

- The calibration of a fold uses images that were predicted by networks trained on that fold.
- The constants of `train/detail.py` were chosen on these patients: 0.006 of Dice in all.
- Where a fold has several networks the figures are of their average, and the export refuses them \
for single ones.
- Folds go by image, or by person where `persons.csv` is beside the data: the challenge has none. \
Identical images are refused.
- Four of five networks were trained on each control, so the specificity of the shipped files on \
these controls is an upper bound."""


def _section(text: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A text and its Markdown table, nothing where that has no rows."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    table = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    return [part for part in (text, table) if part and rows]


def dice_text(point: dict[str, float]) -> str:
    """Of an operating point: the mean with its standard error."""
    return f"{point['dice']:.4f} ± {point['dice_standard_error']:.4f}"


def _with_interval(value: float, ends: Sequence[float], form: str = ".3f") -> str:
    return f"{value:{form}} ({ends[0]:{form}} to {ends[1]:{form}})"


def _operating_points(content: dict) -> list[list[str]]:
    """A row for each; without controls, what they would give is empty."""
    rows = []
    for name, point in content["operating_points"].items():
        ends = content["intervals"][name]
        texts = {
            key: _with_interval(point[key], ends[key], form)
            for key, form in FORMS.items()
            if key in point
        }
        numbers = f"{point['minimum_probability']:g}", f"{point['threshold_factor']:g}"
        rows.append([name, *numbers, *(texts.get(key, "") for key in FORMS)])
    return rows


def _reliability(content: dict) -> list[str]:
    of_all, above = (
        _with_interval(*content[f"expected_calibration_error{which}"], ".4f")
        for which in ("", "_from_a_tenth")
    )
    return [
        "## Reliability of the probability",
        "Of the pixels that get a probability of 0.3, three in ten should be tumour. The expected "
        "calibration error is the mean distance between the two, over tenths of the probability: "
        f"**{above}** for pixels of 0.1 and more, {of_all} for all pixels, most of which are "
        "plainly healthy. It holds for patients: in a healthy person every probability is too "
        "high. The numbers are in out_of_fold.json.",
        "![Reliability diagram](reliability.png)",
    ]


def _locked(found: dict) -> list[str]:
    """The section on a locked test set; found: the content of locked_test_set.json."""
    points = found["operating_points"]
    peer, theirs = found["peer"]
    rows = [
        ["Dice, mean", *(_with_interval(of["dice"], of["interval"]) for of in points.values())],
        *([text, *(of.get(key, "") for of in points.values())] for key, text in LOCKED.items()),
    ]
    return _section(
        f"## The file itself, on a locked test set\n\n"
        f"{found['patients']} of the challenge's patients and {found['controls']} of its controls "
        "are kept outside of the repository, trained on by nobody: together the networks of a file "
        "have seen everybody else, so only here has it a figure on unseen people.\n\n"
        f"Measured on the file of {found['version']}, {found['passes']} passes, at its own "
        f"operating points; {found['expected_with_five_passes']} is expected of five passes, until "
        f"they are measured. {peer} on the same split: {theirs}.",
        ["figure", *points],
        rows,
    )


def as_markdown(content: dict, locked: dict | None = None) -> str:
    """content: what out_of_fold.collect gives; locked: that of locked_test_set.json."""
    figures, default = content["figures"], content["operating_point"]
    rows = [
        ["Dice, mean ± standard error", dice_text(content["operating_points"][default])],
        ["Dice, median", figures["dice_median"]],
        ["failures (Dice < 0.1)", figures["failures"]],
    ]
    if figures["hausdorff_95_median"]:
        median, _ = figures["hausdorff_95_median"]
        rows += [
            ["Hausdorff distance, 95th percentile: how far outlines lie apart", f"{median} pixels"]
        ]
    parts = [
        "# Out-of-fold results",
        f"`{COMMAND}` writes this page, version {content['version']}, commit "
        f"{content['measuring_commit']}.",
        f"{figures['patients']} patients and {len(content['controls'])} controls. Out of fold: "
        "each image is predicted by networks that were not trained on it, image and mirror image "
        "averaged. Nested: calibration and operating points are fitted on the other folds. The "
        "figures are of single networks; the shipped files average several, for which a "
        "calibration of single ones holds. Intervals: 95 %, bootstrap over people.",
        "## Operating points",
        *_section(
            OPERATING_POINTS,
            [
                "name", "minimum probability", "factor", "Dice", "lesion sensitivity",
                "false lesions per patient", "specificity", "false lesions per control",
            ],
            _operating_points(content),
        ),
        "![The operating points](operating_points.png)",
        *_section(
            "Other factors, with no mask emptied:",
            ["factor", "Dice", "lesion sensitivity", "false lesions per patient"],
            [
                [factor, f"{dice:.3f}", f"{found:.3f}", f"{wrong:.1f}"]
                for factor, (dice, found, wrong) in content["threshold_factors"].items()
            ],
        ),
        *_section(
            "Tumour pixels in the controls that the challenge calls tricky:",
            ["control", "why", *content["operating_points"]],
            [[name, why, *p.values()] for name, (why, p) in content["tricky_controls"].items()],
        ),
        *(_locked(locked) if locked else []),
        *_section(f"## More at the default, {default}", ["figure", "value"], rows),
        *_section(
            "",
            ["fold", "patients", "Dice"],
            [[f, n, f"{d:.3f} ± {e:.3f}"] for f, (d, e, n) in content["dice_by_fold"].items()],
        ),
        *_section(
            "",
            ["lesions by pixels", "lesions", "sensitivity"],
            [[k, n, f"{s:.3f}"] for k, (s, n) in figures["lesion_sensitivity_by_pixels"].items()],
        ),
        *_reliability(content["reliability"]),
        *_section(
            "## Robustness\n\n"
            "Mean Dice that patients lose by a change of the image:",
            ["variant", "Dice lost"],
            [[name, f"{d:.3f} ± {e:.3f}"] for name, (d, e) in content["robustness"].items()],
        ),
        *_section(
            "## Averaging\n\n"
            "Two networks a fold: the figures above are of their averages. The average of all "
            "seeds, judged at the operating point that is fitted on one seed:",
            ["seed", "its Dice", "the average gains", "standard error"],
            [[s, *(f"{x:.4f}" for x in row)] for s, row in content["averaging"].items()],
        ),
        LIMITS,
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
