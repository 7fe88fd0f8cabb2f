"""What an experiment was measured to be, as numbers: artifacts/experiments/NAME.json.

One file for each file of train/experiments/, with everyone who was held out of its runs. It
outlives them: folds that were trained on another machine, or long ago, stay in it.
"""

import json
from dataclasses import asdict
from pathlib import Path

from train import checkpoint, config, dataset, oof
from train.files import replacing

# Of one run: which fold, from what, and how far it came. A slower machine is given more minutes.
_OF_ONE_RUN = {
    *config.PATHS,
    *("source_commit", "fold", "start_from_sha256", "teachers_sha256"),
    *("minutes", "epochs", "precision"),
}


def fold_folder(out: Path, fold: int) -> Path:
    return out / f"fold-{fold}"


def done(out: Path, fold: int) -> bool:
    return (fold_folder(out, fold) / "decision.json").exists()


def of_runs(out: Path, config_file: Path) -> dict:
    """All finished folds of an experiment as one JSON value; ValueError where there are none."""
    folds = [fold for fold in range(dataset.FOLDS) if done(out, fold)]
    if not folds:
        raise ValueError(f"{out}: no fold is done")
    runs, people, teachers = {}, [], set()
    for fold in folds:
        folder = fold_folder(out, fold)
        state, settings, facts = checkpoint.read(folder)
        runs[str(fold)] = {
            "source_commit": settings.source_commit,
            "steps": checkpoint.steps(state),
            "minutes": round(state["seconds"] / 60, 2),
            "precision": settings.precision,
            "start_from_sha256": settings.start_from_sha256,
        }
        rows = json.loads((folder / "held_out.json").read_text())
        if not oof.can_be_calibrated(rows):
            raise ValueError(
                f"{folder}: its people were measured by an older version; measure them again with "
                f"python -m train.fit --resume --out {folder}"
            )
        people += [row | {"fold": fold} for row in rows]
        teachers |= {Path(run).parent.name for run in settings.teachers}
    return {
        "name": config_file.stem,
        "about": config.about(config_file),
        "settings": {k: v for k, v in asdict(settings).items() if k not in _OF_ONE_RUN},
        "taught_by": sorted(teachers),
        "data": facts["data"],
        "runs": runs,
        "people": people,
    }


def _file(artifacts: Path, name: str) -> Path:
    return artifacts / "experiments" / f"{name}.json"


def with_kept_folds(result: dict, artifacts: Path) -> dict:
    """The result, and of the folds that it lacks what `write` wrote when they were measured.

    Raises ValueError where those are of other settings or data: nothing measured is thrown away.
    """
    file = _file(artifacts, result["name"])
    earlier = json.loads(file.read_text()) if file.exists() else {"runs": {}}
    missing = sorted(earlier["runs"].keys() - result["runs"].keys())
    if not missing:
        return result
    if others := _differences(earlier, result):
        raise ValueError(
            f"{file}: holds fold {', '.join(missing)} of another experiment ({', '.join(others)} "
            "differ); give this one another name, or remove that file"
        )
    runs = {fold: run for fold, run in earlier["runs"].items() if fold in missing} | result["runs"]
    people = [row for row in earlier["people"] if str(row["fold"]) in missing] + result["people"]
    return result | {
        "runs": dict(sorted(runs.items())),
        "people": sorted(people, key=lambda row: row["fold"]),
    }


def _differences(earlier: dict, result: dict) -> list[str]:
    """What tells two experiments of the same name apart; files of any version can be compared."""
    ours, theirs = (
        asdict(config.stored({"data": "", "source_commit": ""} | of["settings"]))
        for of in (result, earlier)
    )
    names = [name for name in ours if name not in _OF_ONE_RUN and ours[name] != theirs[name]]
    names += [name for name in ("data", "taught_by") if earlier.get(name, []) != result[name]]
    if not oof.can_be_calibrated(earlier["people"]):
        names.append("what is kept of people")
    return names


def write(result: dict, artifacts: Path) -> None:
    """Write an experiment's numbers, one person a line so that a change can be read."""
    file = _file(artifacts, result["name"])
    file.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({k: v for k, v in result.items() if k != "people"}, indent=1)
    people = ",\n".join(f"  {json.dumps(row)}" for row in result["people"])
    with replacing(file) as partial:
        partial.write_text(f'{head[:-2]},\n "people": [\n{people}\n ]\n}}\n')


def read_all(artifacts: Path) -> list[dict]:
    """All experiments, as `write` wrote them."""
    return [json.loads(path.read_text()) for path in sorted(artifacts.glob("experiments/*.json"))]
