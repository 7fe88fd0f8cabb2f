"""Scored cases as the lines that a person reads, and as a table for programs."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, fields

import numpy as np

from benchmarks.running.statistics import interval, percentile
from benchmarks.scoring.losses import Losses
from benchmarks.scoring.score import Result
from tumour_segmenter.folders import counted
from tumour_segmenter.lesions import FAILURE

BASELINE_DICE = 0.2  # of the challenge's own baseline; at or below it the scaled score is 0
# Lesions by area in pixels: from this on, up to the next.
SIZES = (1, 50, 200, 1000)
# Healthy controls that the challenge's text names as difficult, and why they take up tracer.
TRICKY_CONTROLS = {
    "control_050": "cold: neck",
    "control_399": "chemotherapy: bones",
    "control_381": "after a meal: muscles",
    "control_398": "bowel",
}


def scaled_score(dice: float, best: float) -> float:
    """The challenge's score, 0.0 to 1.0, of a mean Dice where the best team has `best`.

    Its text: 0 at or below the baseline's 0.2, 1 for the best team. The formula printed beside
    that text has its sign the wrong way round.
    """
    return min(1.0, max(0.0, dice - BASELINE_DICE) / (best - BASELINE_DICE))


def summary(
    results: list[Result],
    best: float | None = None,
    trained_on: frozenset[str] | None = None,
    worst: int = 5,
) -> str:
    """The lines that a person reads: worst cases, then the figures, time and faults.

    `trained_on` are hashes of the images that the model was trained on, None if not known.
    """
    patients = sorted((r for r in results if r.case.group == "patient"), key=lambda r: r.dice)
    controls = [r for r in results if r.case.group == "control"]
    lines = _worst(patients, worst)
    if patients:
        lines += _of_patients(patients, best, trained_on)
    if controls:
        lines += _of_controls(controls, trained_on)
    times = [1000 * r.seconds for r in results]
    if any(times):
        p50, p99 = percentile(times, 50), percentile(times, 99)
        lines.append(f"time, ms      median {p50:.0f}, p99 {p99:.0f}, max {max(times):.0f}")
    faults = [r for r in results if r.fault]
    lines.append(f"faults        {len(faults)}")
    lines += [f"  {r.case.name}: {r.fault}" for r in faults[:worst]]
    return "\n".join(lines)


def _worst(patients: list[Result], worst: int) -> list[str]:
    lines = [f"{'case':<14}{'dice':>7}{'truth px':>10}{'mask px':>10}{'ms':>8}  fault"]
    lines += [
        f"{r.case.name:<14}{r.dice:7.3f}{r.truth_pixels:10d}{r.mask_pixels:10d}"
        f"{1000 * r.seconds:8.0f}  {r.fault}".rstrip()
        for r in patients[:worst]
    ]
    if len(patients) > worst:
        lines.append(f"... and {len(patients) - worst} better ones")
    return [*lines, ""]


def _of_patients(
    patients: list[Result], best: float | None, trained_on: frozenset[str] | None
) -> list[str]:
    dice = np.array([r.dice for r in patients])
    known = leakage(patients, trained_on)
    failures = int((dice < FAILURE).sum())
    missed, false, boundary = np.mean([astuple(r.losses) for r in patients], axis=0)
    lines = [
        f"mean Dice     {dice.mean():.4f}  over {counted(len(dice), 'patient')}{between(dice)}"
        + (f"; {known}" if known else ""),
        f"median Dice   {np.median(dice):.4f}",
        f"failures      {failures / len(dice):.1%}  ({failures} with Dice < {FAILURE:g})",
        f"1 - Dice      missed lesions {missed:.4f}, false-positive lesions {false:.4f}, "
        f"boundary error {boundary:.4f}",
    ]
    if best:
        lines.append(
            f"scaled score  {scaled_score(dice.mean(), best):.4f}  "
            f"0 at a mean Dice of {BASELINE_DICE:g}, 1 at the best known, {best:g}"
        )
    return lines + _of_lesions(patients)


def _of_lesions(patients: list[Result]) -> list[str]:
    found = np.array([sum(r.lesions.found) for r in patients])
    total = np.array([len(r.lesions.found) for r in patients])
    if not total.sum():
        return []
    lesions = counted(total.sum(), "lesion")
    lines = [
        f"sensitivity   {found.sum() / total.sum():.1%}  {found.sum()} of {lesions} "
        f"found, by one pixel at least{between(found, total, '.1%')}"
    ]
    sizes = np.array([size for r in patients for size in r.lesions.sizes])
    hits = np.array([hit for r in patients for hit in r.lesions.found])
    for low, high in zip(SIZES, [*SIZES[1:], None], strict=True):
        of = (sizes >= low) & (sizes < high) if high else sizes >= low
        name = f"{low} to {high - 1} px" if high else f"from {low} px"
        if of.any():
            share = f"{hits[of].sum() / of.sum():.1%}"
            lines.append(f"  {name:<14}{share:>7}  {hits[of].sum()} of {of.sum()}")
    false = np.array([r.lesions.false_lesions for r in patients])
    lines.append(
        f"false lesions {false.mean():.2f}  false-positive lesions per patient"
        f"{between(false, style='.2f')}"
    )
    distances = np.array([d for r in patients if (d := r.hausdorff) is not None])
    without = len(patients) - len(distances)
    text = (
        f"{distances.mean():.1f}  px, mean{between(distances, style='.1f')}; "
        f"median {np.median(distances):.1f}"
        if len(distances)
        else "none"
    )
    lines.append(f"Hausdorff 95  {text}; {counted(without, 'patient')} without a mask left out")
    return lines


def _of_controls(controls: list[Result], trained_on: frozenset[str] | None) -> list[str]:
    empty = np.array([not r.fault and r.mask_pixels == 0 for r in controls])
    false = np.array([r.lesions.false_lesions for r in controls])
    known = leakage(controls, trained_on)
    lines = [
        f"empty masks   {empty.mean():.1%}  of {counted(len(controls), 'control')}: specificity"
        f"{between(empty, style='.1%')}" + (f"; {known}" if known else ""),
        f"false lesions {false.mean():.2f}  false-positive lesions per control"
        f"{between(false, style='.2f')}",
    ]
    for r in controls:
        if why := TRICKY_CONTROLS.get(r.case.name):
            result = r.fault or (f"{r.mask_pixels} px marked" if r.mask_pixels else "empty")
            lines.append(f"  {r.case.name} ({why}): {result}")
    return lines


def froc(points: dict[str, list[Result]], trained_on: frozenset[str] | None) -> str:
    """The curve of free-response operating characteristics as a table, a line for each point."""
    lines = [
        "operating     mean   lesions  false lesions  false lesions  controls with",
        "point         Dice     found    per patient    per control   an empty mask",
    ]
    for name, results in points.items():
        patients = [r for r in results if r.case.group == "patient"]
        controls = [r for r in results if r.case.group == "control"]
        found = [hit for r in patients for hit in r.lesions.found]
        line = f"{name:<12}{np.mean([r.dice for r in patients]):6.4f}{np.mean(found):10.1%}"
        line += f"{np.mean([r.lesions.false_lesions for r in patients]):15.2f}"
        if controls:
            line += f"{np.mean([r.lesions.false_lesions for r in controls]):15.2f}"
            line += f"{np.mean([not r.fault and not r.mask_pixels for r in controls]):16.1%}"
        if faults := sum(bool(r.fault) for r in results):
            line += f"  {counted(faults, 'fault')}"
        lines.append(line)
        if known := leakage(patients, trained_on):
            lines.append(f"  {known}")
    return "\n".join(lines)


def leakage(results: list[Result], trained_on: frozenset[str] | None) -> str:
    """How many of the images the model was trained on, in words; empty for none."""
    if trained_on is None:
        return ""
    known = sum(r.image_hash in trained_on for r in results)
    if not known:
        return ""
    group = results[0].case.group
    which = f"{known} of {len(results)} images were" if known > 1 else f"1 of {len(results)} was"
    return f"{which} in its training data: not a figure for unseen {group}s"


def between(values: np.ndarray, of: np.ndarray | None = None, style: str = ".4f") -> str:
    """`, 95 % from 0.79 to 0.83` by bootstrap over images; empty for a single image."""
    if len(values) < 2:
        return ""
    low, high = interval(values, of)
    return f", 95 % from {low:{style}} to {high:{style}}"


def to_csv(results: list[Result]) -> str:
    """One row per case; `dice` as compare.py reads it, `hausdorff_95` empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"lost_to_{field.name}" for field in fields(Losses)]
    lesions = ["lesions", "lesions_found", "false_lesions", "hausdorff_95"]
    areas = ["truth_pixels", "mask_pixels"]
    writer.writerow(["case", "group", "dice", *parts, *lesions, *areas, "ms", "fault"])
    for r in results:
        sizes, found, false_lesions = r.lesions
        shares = [f"{share:.6f}" for share in (r.dice, *astuple(r.losses))]
        row = [r.case.name, r.case.group, *shares, len(sizes), sum(found), false_lesions]
        row.append("" if r.hausdorff is None else f"{r.hausdorff:.2f}")
        row += [r.truth_pixels, r.mask_pixels, f"{1000 * r.seconds:.1f}", r.fault]
        writer.writerow(row)
    return text.getvalue()
