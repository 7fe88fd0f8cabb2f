"""The story of all experiments: artifacts/experiments/*.json -> artifacts/EXPERIMENTS.md and plots.

Only numbers are kept, none of a patient's image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train import decision, evaluate, kept, oof
from train.calibration import Calibration
from train.decision import Decision, Scores, ThresholdScores
from train.figures import plt
from train.files import replacing

RESAMPLES = 10_000
BASELINE = "scratch"
"""The experiment that all others are compared with, patient by patient."""


@dataclass(frozen=True, eq=False)
class Summary:
    """One experiment over everyone it held out.

    runs: by fold, as `train.kept.of_runs` has them; nested: Dice of each patient at the decision
    best for the others; fixed: the same with one threshold for all images, where `nested` is with a
    calibration. robust: by variant, what the mean loses at `decision`.
    """

    name: str
    about: str
    runs: dict[int, dict]
    patients: list[dict]
    scores: Scores
    decision: Decision
    nested: np.ndarray
    robust: dict[str, float]
    empty: float | None
    fixed: np.ndarray | None

    @property
    def folds(self) -> list[int]:
        return sorted(self.runs)

    @property
    def minutes(self) -> float:
        return float(np.mean([run["minutes"] for run in self.runs.values()]))

    @property
    def standard_error(self) -> float:
        return decision.standard_error(self.nested)

    @property
    def missed(self) -> int:
        return int((self.nested < evaluate.MISSED).sum())

    def measured(self) -> str:
        """One line for metadata."""
        folds = ", ".join(map(str, self.folds))
        return (
            f"mean {self.nested.mean():.4f} ± {self.standard_error:.4f}, median "
            f"{np.median(self.nested):.4f}, below {evaluate.MISSED}: {self.missed} of "
            f"{len(self.nested)} held-out patients of fold {folds}"
        )


def summary(result: dict) -> Summary:
    """Of what `train.kept.of_runs` gives."""
    people = result["people"]
    scores = oof.scores(people)
    decided = decision.choose(scores)
    plain = decision.dice_at(scores, decided).mean()
    calibrated = isinstance(decided.setting, Calibration)
    return Summary(
        name=result["name"],
        about=result["about"],
        runs={int(fold): run for fold, run in result["runs"].items()},
        patients=oof.patients_of(people),
        scores=scores,
        decision=decided,
        nested=decision.nested_dice(scores),
        robust={
            variant: float(plain - decision.dice_at(oof.scores(people, variant), decided).mean())
            for variant in oof.VARIANTS
        },
        empty=decision.empty(scores, decided),
        fixed=decision.nested_dice(oof.threshold_scores(people)) if calibrated else None,
    )


def gain(ours: Summary, baseline: Summary) -> tuple[float, float] | None:
    """What patients whom both held out gain against the baseline: mean and standard error.

    The difference of each patient says far more than that of the means: what is hard for one
    network is hard for the other. None where fewer than two patients are common.
    """
    of_baseline = _by_name(baseline)
    gains = [
        dice - of_baseline[name] for name, dice in _by_name(ours).items() if name in of_baseline
    ]
    if len(gains) < 2:
        return None
    return float(np.mean(gains)), decision.standard_error(np.array(gains))


def _by_name(s: Summary) -> dict[str, float]:
    return {row["name"]: float(dice) for row, dice in zip(s.patients, s.nested, strict=True)}


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean by resampling patients, seed 0."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def write_report(artifacts: Path) -> None:
    """EXPERIMENTS.md with its plots, of everything in artifacts/experiments/."""
    folder = artifacts / "experiments"
    summaries = sorted(
        map(summary, kept.read_all(artifacts)), key=lambda s: (-len(s.folds), -s.nested.mean())
    )
    _plot_all(summaries, folder / "dice.png")
    sections = [_details(s, folder) for s in summaries]
    with replacing(artifacts / "EXPERIMENTS.md") as partial:
        partial.write_text(
            _HEAD.format(baseline=BASELINE) + _table(summaries) + _FOOT + "\n".join(sections)
        )


_HEAD = """# Experiments

Written by `python -m train.crossval` from the numbers in [experiments/](experiments); not edited by
hand. Every figure is of people whom the network never saw and of whom no lesion was transplanted.
Each patient's Dice is taken at the setting and least probability that are best for all the *other*
patients; the setting is one threshold for all images, or a calibration of the probabilities after
which each image gets its own. "Against" is the mean difference to `{baseline}`, patient by patient,
over those whom both held out, with its standard error: experiments on fewer folds can be compared
by that alone. `imagenet`, `lite2` and what goes on from them were measured with detail put back and
the rows of a slice told the same (`train/detail.py`, `train/slices.py`); the others are older and
were measured without.

"""
_FOOT = """
![Mean Dice with 95 % intervals](experiments/dice.png)

"""


def _table(summaries: list[Summary]) -> str:
    lines = [
        "| experiment | decided by | folds | patients | mean Dice ± standard error | 95 % "
        "| against | median | below 0.1 | empty controls | most lost to flips "
        "| lost to 6 % salt and pepper | minutes a fold |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    baseline = next((s for s in summaries if s.name == BASELINE), None)
    for s in summaries:
        against = gain(s, baseline) if baseline and s is not baseline else None
        low, high = bootstrap(s.nested)
        flips = max(loss for name, loss in s.robust.items() if name != "salt_and_pepper")
        lines.append(
            f"| [{s.name}](../train/experiments/{s.name}.toml) | {s.scores.name} "
            f"| {', '.join(map(str, s.folds))} "
            f"| {len(s.nested)} | {s.nested.mean():.4f} ± {s.standard_error:.4f} "
            f"| {low:.3f} to {high:.3f} "
            f"| {'{:+.4f} ± {:.4f}'.format(*against) if against else ''} "
            f"| {np.median(s.nested):.4f} | {s.missed} | {_percent(s.empty)} "
            f"| {flips:.4f} | {s.robust['salt_and_pepper']:.4f} | {s.minutes:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _details(s: Summary, folder: Path) -> str:
    _plot_one(s, folder / f"{s.name}.png")
    losses = ", ".join(f"{name.replace('_', ' ')} {loss:+.4f}" for name, loss in s.robust.items())
    return f"""## {s.name}

{s.about}
{_steps(s)}
{s.scores.name.capitalize()}: {s.decision.setting}; least probability \
{s.decision.least_probability:g}. Lost: {losses}.{_against_fixed(s)}

| patients | | n | mean Dice | median | below 0.1 |
|---|---|---:|---:|---:|---:|
{_groups(s)}

![The decision; Dice and empty controls as it moves; Dice over lesion area]\
(experiments/{s.name}.png)
"""


def _steps(s: Summary) -> str:
    """A paragraph, of those whose steps are known: versions up to 0.6.0 kept minutes only."""
    told = [
        f"fold {fold}: {run['steps']:,} in {run['minutes']:.0f} minutes ({run['precision']})"
        for fold, run in sorted(s.runs.items())
        if "steps" in run
    ]
    return f"\nSteps: {', '.join(told)}.\n" if told else ""


def _against_fixed(s: Summary) -> str:
    if s.fixed is None:
        return ""
    gains = s.nested - s.fixed
    return (
        f" One threshold for all images gets {s.fixed.mean():.4f}: each image's own gains "
        f"{gains.mean():+.4f} ± {decision.standard_error(gains):.4f}."
    )


def _groups(s: Summary) -> str:
    """Rows by lesion area, image height (thirds), number of lesions and fold."""
    area, height, lesions = (
        np.array([row[key] for row in s.patients]) for key in ("area", "height", "lesions")
    )
    rows = []
    for title, values in (("lesion area, pixels", area), ("image height", height)):
        edges = np.quantile(values, (1 / 3, 2 / 3))
        rows += [
            (title, f"{values[group].min()} to {values[group].max()}", group)
            for third in range(3)
            if (group := np.searchsorted(edges, values) == third).any()
        ]
    for label, group in (
        ("1", lesions <= 1),
        ("2 to 4", (lesions > 1) & (lesions < 5)),
        ("5 and more", lesions > 4),
    ):
        rows.append(("lesions", label, group))
    fold = np.array([row["fold"] for row in s.patients])
    rows += [("fold", str(k), fold == k) for k in s.folds]
    return "\n".join(
        f"| {title} | {label} | {group.sum()} | {s.nested[group].mean():.3f} "
        f"| {np.median(s.nested[group]):.3f} | {(s.nested[group] < evaluate.MISSED).sum()} |"
        for title, label, group in rows
        if group.any()
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _plot_all(summaries: list[Summary], out: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 1 + 0.5 * len(summaries)), layout="constrained")
    for i, s in enumerate(reversed(summaries)):
        low, high = bootstrap(s.nested)
        axes.plot((low, high), (i, i), color="tab:blue")
        axes.plot(s.nested.mean(), i, "o", color="tab:blue")
    axes.set_yticks(
        range(len(summaries)), [f"{s.name} (n={len(s.nested)})" for s in reversed(summaries)]
    )
    axes.axvline(0.8, linestyle=":", color="grey")
    axes.set(xlabel="mean Dice of held-out patients, 95 % interval; dotted: 0.80")
    axes.grid(axis="x", alpha=0.3)
    _save(figure, out)


def _plot_setting(s: Summary, axes: plt.Axes) -> None:
    """The thresholds that were tried, or how far calibrated probabilities may be believed."""
    if isinstance(s.scores, ThresholdScores):
        axes.plot(decision.THRESHOLDS, s.scores.table.mean(axis=0))
        axes.axvline(s.decision.setting, linestyle=":", color="grey")
        axes.set(xlabel="threshold", ylabel="mean Dice of patients", ylim=(0, 1))
        return
    axes.plot((0, 1), (0, 1), ":", color="grey")
    axes.plot(*s.scores.histograms.reliability(s.decision.setting), ".-")
    axes.set(xlabel="calibrated probability of pixels", ylabel="share that is tumour")


def _plot_one(s: Summary, out: Path) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    _plot_setting(s, left)
    tried = decision.LEAST_PROBABILITIES
    decisions = [Decision(s.decision.setting, float(least)) for least in tried]
    dice = [decision.dice_at(s.scores, d).mean() for d in decisions]
    middle.semilogx(tried, dice, label="patients' Dice")
    if s.empty is not None:
        empty = [decision.empty(s.scores, d) for d in decisions]
        middle.semilogx(tried, empty, label="empty controls")
    middle.axvline(s.decision.least_probability, linestyle=":", color="grey")
    middle.set(xlabel=f"least probability, at this {s.scores.name}", ylim=(0, 1))
    middle.legend()
    right.semilogx([row["area"] + 1 for row in s.patients], s.nested, ".")
    right.set(xlabel="lesion area, pixels", ylabel="Dice", ylim=(-0.02, 1))
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    _save(figure, out)


def _save(figure: plt.Figure, out: Path) -> None:
    with replacing(out) as partial:
        figure.savefig(partial, dpi=100)
    plt.close(figure)
