"""Cross-validate a recipe:
`python -m train.crossval --config train/experiments/NAME.toml --data DIR --out runs/NAME`.

Trains one network for each fold (`--folds 0 1` for some of them) with `train.fit`, each in its own
process and folder, `--jobs` at a time: on few cores two runs of one thread each are half as fast
again as one run of two. Folds that are done are not trained again, those that were interrupted go
on. Then everyone who was held out is put together: decision.json for the export, a file of numbers
in artifacts/experiments/, and the table and plots of artifacts/EXPERIMENTS.md. Folds that this file
of numbers has and the folder has not were measured elsewhere; they stay, and count.

Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from train import checkpoint, comparison, config, dataset, kept, oof
from train.config import PRECISIONS
from train.kept import done, fold_folder

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"


def _of_fold(path: Path, fold: int) -> Path:
    """The network of another recipe for a fold; a file is the same for all of them."""
    return path if path.is_file() else fold_folder(path, fold)


def start(arguments: argparse.Namespace, fold: int) -> subprocess.Popen:
    """Train or go on with one fold in a process of its own; what it prints goes to fit.log."""
    out = fold_folder(arguments.out, fold)
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "train.fit", "--out", str(out)]
    if (out / checkpoint.FILE).exists():
        command.append("--resume")
    else:
        command += ["--data", str(arguments.data), "--config", str(arguments.config)]
        command += ["--fold", str(fold)]
        if arguments.start_from:
            command += ["--start-from", str(_of_fold(arguments.start_from, fold))]
        for name in ("minutes", "precision"):
            if (value := getattr(arguments, name)) is not None:
                command += [f"--{name}", str(value)]
        for teachers in arguments.teachers:
            command += ["--teacher", str(_of_fold(teachers, fold))]
    threads = max(1, len(os.sched_getaffinity(0)) // arguments.jobs)
    with (out / "fit.log").open("a") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )


def train(arguments: argparse.Namespace) -> list[int]:
    """Train what is missing; the folds whose run failed."""
    waiting = [fold for fold in arguments.folds if not done(arguments.out, fold)]
    failed: list[int] = []
    running: dict[int, subprocess.Popen] = {}
    total = len(arguments.folds)
    with tqdm(total=total, initial=total - len(waiting), unit="fold", disable=None) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < arguments.jobs:
                    fold = waiting.pop(0)
                    running[fold] = start(arguments, fold)
                time.sleep(0.5)
                for fold, process in list(running.items()):
                    if process.poll() is not None:
                        del running[fold]
                        bar.update()
                        if process.returncode:
                            failed.append(fold)
        finally:
            # A Ctrl-C reaches them as well; whoever only ends this process must not leave them.
            for process in running.values():
                process.terminate()
                process.wait()
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.crossval", description="Cross-validate a recipe."
    )
    parser.add_argument("--config", type=Path, required=True, help="train/experiments/NAME.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder of patients and controls")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--folds", type=int, nargs="+", choices=range(dataset.FOLDS), metavar="K",
        default=list(range(dataset.FOLDS)), help="default: all five",
    )  # fmt: skip
    parser.add_argument(
        "--teachers", type=Path, action="append", default=[], metavar="OUT",
        help="--out of another recipe, whose networks teach fold by fold, or a model.onnx that "
        "teaches all; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--start-from", type=Path, metavar="OUT",
        help="--out of another recipe, from whose networks each fold goes on, or a model.onnx from "
        "which all do",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, help="of each run, in place of the recipe's: machines differ"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="as well; float32 on CPUs without AMX or AVX512-BF16",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--artifacts", type=Path, default=ARTIFACTS, help="where the report goes")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if arguments.minutes is not None and arguments.minutes <= 0:
        parser.error("--minutes must be above 0")
    try:
        settings = config.read(arguments.config)
        if arguments.minutes is None and not {"minutes", "epochs"} & settings.keys():
            raise ValueError(f"{arguments.config}: needs a budget, minutes or epochs")
        if failed := train(arguments):
            logs = ", ".join(str(fold_folder(arguments.out, f) / "fit.log") for f in failed)
            print(f"error: fold {', '.join(map(str, failed))} failed; see {logs}", file=sys.stderr)
            return 1
        result = kept.of_runs(arguments.out, arguments.config)
        result = kept.with_kept_folds(result, arguments.artifacts)
        summary = comparison.summary(result)
        oof.write_decision(
            arguments.out / "decision.json",
            summary.decision,
            summary.measured(),
            config.stored_view_scales(result["settings"]),
        )
        kept.write(result, arguments.artifacts)
        comparison.write_report(arguments.artifacts)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on")
        return 130
    print(f"{result['name']}: {summary.measured()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
