"""Train one network: `python -m train.fit --data DIR --out runs/NAME --minutes 30`.

The run's folder gets config.json, folds.json, log.csv, curves.png, preview.png, last.pt and, at the
end, held_out.json and decision.json. After an interruption,
`python -m train.fit --resume --out runs/NAME` goes on; for a finished run it writes the figures of
the held-out patients again. Exit codes: 0 done, 2 bad input, 130 interrupted.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from train import (
    checkpoint,
    config,
    dataset,
    evaluate,
    figures,
    pretrained,
    report,
    slices,
    teacher,
    unseen,
    warm_start,
)
from train.config import Config
from train.dataset import Case
from train.files import read_csv, write_csv, write_json
from train.provenance import sha256, source_commit
from train.run import Run
from train.transplant import Donor


def fit(run: Run, cases: list[Case]) -> None:
    """Train until the budget is used up; evaluate and save after every epoch."""
    folds = dataset.folds(cases, run.config.fold_seed)
    held_out = [c for c in cases if folds[c.name] == run.config.fold]
    training = [c for c in cases if folds[c.name] != run.config.fold]
    patients = [c for c in training if c.is_patient]
    controls = [c for c in training if not c.is_patient]
    held_out_patients = [c for c in held_out if c.is_patient]
    if run.config.fold is not None and len(held_out_patients) < 2:
        raise dataset.DataError(
            f"fold {run.config.fold} would hold out {len(held_out_patients)} of {len(patients)} "
            "patients, which is too few to measure anything; use --fold none"
        )
    donors = [donor for donor in map(Donor, patients) if donor.lesions]
    log = run.out / "log.csv"
    rows = []
    facts = {"seed": run.config.fold_seed, "data": dataset.fingerprint(cases), "folds": folds}
    if run.epoch:
        if not unseen.same_folds(json.loads((run.out / "folds.json").read_text()), facts):
            raise dataset.DataError("the data are not those that the run was started with")
        rows = [row for row in read_csv(log) if int(row["epoch"]) <= run.epoch]
    else:
        facts["images"] = unseen.digests(cases)
        facts["shown_before"] = unseen.shown_by(run.config.predecessors(), run.config.fold, facts)
        _begin(run, patients, controls, facts)
    if run.config.teachers:
        run.learn_from(patients, controls)
    write_json(run.out / "upright.json", run.learn_upright(training))
    write_csv(log, report.LOG_COLUMNS, rows)
    while not run.finished():
        loss = run.train_epoch(patients, controls, donors)
        dice = evaluate.dice_of_patients(run.predict(held_out_patients), held_out)
        rows.append(report.log_row(run, loss, dice))
        write_csv(log, report.LOG_COLUMNS, rows)
        run.save()
        tqdm.write("  ".join(f"{k} {v}" for k, v in rows[-1].items()))
        figures.learning_curves(log, run.out / "curves.png")
        if run.epoch % 10 == 0 or run.finished():
            report.preview(run, held_out or patients, dice)
    if run.config.start_share and not run.blended:
        run.blend_with_start(patients, controls)
        run.save()
    if held_out:
        report.held_out_figures(run, held_out)


def _begin(run: Run, patients: list[Case], controls: list[Case], facts: dict) -> None:
    """Take the weights that the config says to start from, and write down what the run is."""
    if run.config.encoder_weights:
        run.load_encoder_weights()
    if run.config.start_from:
        run.start_from(patients, controls)
    write_json(run.out / "folds.json", facts)
    write_json(run.out / "config.json", asdict(run.config))
    if run.finished():  # there is nothing to train, only to measure
        run.save()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.fit", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with patients/ and controls/")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder, e.g. runs/first")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--fold", default="0", choices=[*map(str, range(dataset.FOLDS)), "none"],
        help="fold to hold out, or none to train on everyone (default 0)",
    )  # fmt: skip
    budget = parser.add_mutually_exclusive_group()
    parser.add_argument("--config", type=Path, help="settings as in train/experiments/*.toml")
    budget.add_argument("--minutes", type=float, help="time budget; the schedule is fitted to it")
    budget.add_argument("--epochs", type=int, help="epochs, 300 steps each; 0: only measure")
    parser.add_argument("--seed", type=int, help="of weights, order and variations (default 0)")
    parser.add_argument(
        "--encoder-weights", type=Path, metavar="FILE",
        help="state dict of torchvision's mobilenet_v2, or of the encoder that --config names",
    )  # fmt: skip
    parser.add_argument(
        "--start-from", type=Path, metavar="PATH",
        help="go on from a finished run, from artifacts/NAME/fold-K or from a model.onnx",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", type=Path, action="append", metavar="PATH",
        help="what teaches, as --start-from; it must have held out the same fold; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=config.PRECISIONS,
        help="bfloat16 is the default on CUDA; on a CPU it pays where AMX or AVX512-BF16 is there",
    )  # fmt: skip
    return parser


def _start(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> tuple[Run, list[Case]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    last = arguments.out / checkpoint.FILE
    if arguments.resume:
        if not last.is_file():
            parser.error(f"{last} does not exist; start the run without --resume")
        state = torch.load(last, map_location=device, weights_only=True)
        run = Run(config.stored(state["config"]), arguments.out, device)
        run.restore(state)
        return run, dataset.load(arguments.data or Path(run.config.data))
    if last.exists():
        parser.error(f"{last} exists; add --resume to go on, or choose another --out")
    if arguments.data is None:
        parser.error("--data is needed to start a run")
    settings = config.read(arguments.config) if arguments.config else {}
    if arguments.minutes is not None or arguments.epochs is not None:
        settings |= {"minutes": arguments.minutes, "epochs": arguments.epochs}
    settings.setdefault("precision", "bfloat16" if device.type == "cuda" else "float32")
    for name in ("seed", "precision", "encoder_weights", "start_from"):
        if (value := getattr(arguments, name)) is not None:
            settings[name] = str(value) if isinstance(value, Path) else value
    if teachers := [str(run) for run in arguments.teacher or ()]:
        settings |= {"teachers": teachers, "teachers_sha256": teacher.digests(teachers)}
    elif "teacher_share" in settings:
        parser.error("teacher_share needs --teacher")
    minutes, epochs = settings.get("minutes") or 0, settings.get("epochs")
    only_measured = epochs == 0 and not minutes and "start_from" in settings
    if not only_measured and (minutes > 0) + ((epochs or 0) > 0) != 1:
        parser.error(
            "give one budget above zero, --minutes M or --epochs N; --epochs 0 with --start-from "
            "measures a network as it is"
        )
    if weights := settings.get("encoder_weights"):
        path = pretrained.file_of(settings.get("encoder", Config.encoder), weights)
        settings["encoder_weights_sha256"] = sha256(path)
    if start := settings.get("start_from"):
        settings = warm_start.form_of(Path(start)) | settings
        settings["start_from_sha256"] = sha256(checkpoint.file_of(Path(start)))
    elif settings.get("start_share"):
        parser.error("start_share needs --start-from")
    cases = dataset.load(arguments.data)
    settings.setdefault("by_slices", slices.kept_by(case.truth for case in cases))
    run_config = Config(
        data=str(arguments.data),
        source_commit=source_commit("train", "serve"),
        fold=None if arguments.fold == "none" else int(arguments.fold),
        **settings,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    return Run(run_config, arguments.out, device), cases


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    # Denormal weights and gradients slow a CPU down and change nothing.
    torch.set_flush_denormal(True)
    try:
        fit(*_start(arguments, parser))
    except (dataset.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: python -m train.fit --resume --out {arguments.out}")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
