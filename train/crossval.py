"""Train all folds: `python -m train.crossval --data DIR --out runs/NAME --seeds 2 --minutes 60`.

Trains networks of every seed for every fold with `train.fit`, each in its own process and folder
(`fold-0-seed-0`, ...), `--jobs` at a time. The same command resumes: runs that are done are kept,
those that were interrupted are resumed. In the end all weights are in the folder `weights` as well:
`fold-K.safetensors` of the first seed, `fold-K-seed-1.safetensors` and so on of the others. Exit
codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from train import checkpoint, cli, dataset, fit, pretrained, weights
from train.config import Config
from tumour_segmenter import files
from tumour_segmenter.progress import bar

LOG = "fit.log"
POLL = 0.5  # seconds


def check_same(folder: Path, wanted: Config) -> None:
    """Raise ValueError where a run of other settings is in the folder."""
    path = folder / "config.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    asked = json.loads(json.dumps(asdict(wanted)))
    for name in asked.keys() & found.keys() - set(fit.OF_THIS_MACHINE):
        if found[name] != asked[name]:
            raise ValueError(
                f"{folder} is of other settings: {name} is {found[name]}, not {asked[name]}; "
                "choose another --out, or remove that folder"
            )


def check_origin(folder: Path, wanted: Config, data: str) -> None:
    """Raise ValueError where the run in the folder is of other data or another start. data: the
    fingerprint."""
    facts = checkpoint.facts_in(folder)
    for name, asked in (("data_fingerprint", data), ("started_from", pretrained.origin(wanted))):
        if facts and facts.get(name) != asked:
            raise ValueError(
                f"{folder} is of another run: {name} is {facts.get(name)}, not {asked}; choose "
                "another --out, or remove that folder"
            )


def command(folder: Path, config: Config, arguments: argparse.Namespace) -> list[str]:
    """What starts or resumes the run in the folder."""
    words = [sys.executable, "-m", "train.fit", "--out", str(folder), "--data", config.data]
    if (folder / checkpoint.CHECKPOINT).exists():
        return [*words, "--resume"]
    for name in ("config", "minutes", "steps", "precision"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name}", str(value)]
    if config.start_from:
        words += ["--start-from", config.start_from]
    return [*words, "--fold", str(config.fold), "--seed", str(config.seed)]


def last_line(log: Path) -> str:
    """Of what a run has printed; empty where that is nothing."""
    return log.read_text(errors="replace").strip().rpartition("\n")[2].strip()


def train(runs: dict[Path, Config], arguments: argparse.Namespace) -> list[Path]:
    """Train what is not done yet; return the folders whose run failed."""
    waiting = [folder for folder in runs if not (folder / checkpoint.WEIGHTS).exists()]
    running: dict[Path, subprocess.Popen] = {}
    failed: list[Path] = []
    # Whoever ends this process ends its runs: the `finally` below is to be reached.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threads = max(1, len(os.sched_getaffinity(0)) // arguments.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = len(runs) - len(waiting)
    with bar(total=len(runs), initial=done, desc="cross-validation", unit="runs") as shown:
        try:
            while waiting or running:
                while waiting and len(running) < arguments.jobs:
                    folder = waiting.pop(0)
                    folder.mkdir(parents=True, exist_ok=True)
                    with (folder / LOG).open("a") as log:
                        running[folder] = subprocess.Popen(
                            command(folder, runs[folder], arguments),
                            stdout=log, stderr=log, env=environment,
                        )  # fmt: skip
                time.sleep(POLL)
                for folder, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[folder]
                    if process.returncode:
                        failed.append(folder)
                        print(f"{folder} failed: {last_line(folder / LOG)}", file=sys.stderr)
                lines = (f"{folder.name} {last_line(folder / LOG)}" for folder in running)
                shown.set_postfix_str(", ".join(lines), refresh=False)
                shown.update(len(runs) - len(waiting) - len(running) - shown.n)
        finally:
            # A Ctrl-C reaches them as well; whoever only ends this process must not leave them.
            for process in running.values():
                process.terminate()
                process.wait()
            signal.signal(signal.SIGTERM, before)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m train.crossval", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--folds", type=int, nargs="+", choices=range(dataset.FOLDS), metavar="K",
        default=list(range(dataset.FOLDS)), help="default: all five",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, help="networks of each fold (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1)")
    cli.add_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    for name in ("jobs", "seeds"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} must be 1 or more")
    if arguments.data is None:
        raise ValueError("--data is needed")
    checkpoint.check_folder(arguments.out)
    settings, start = cli.settings_of(arguments), arguments.start_from
    runs: dict[Path, Config] = {}
    for seed, fold in itertools.product(range(arguments.seeds), dict.fromkeys(arguments.folds)):
        path = start / f"fold-{fold}.safetensors" if start and start.is_dir() else start
        if path:
            weights.load(path)  # before hours of training
        own = {"fold": fold, "seed": seed, "start_from": str(path) if path else None}
        folder = arguments.out / f"fold-{fold}-seed-{seed}"
        runs[folder] = Config(data=str(arguments.data), **settings | own)
        check_same(folder, runs[folder])
    if any(checkpoint.facts_in(folder) for folder in runs):
        data = dataset.fingerprint(dataset.load(arguments.data, note=lambda _: None))
        for folder, wanted in runs.items():
            check_origin(folder, wanted, data)
    with checkpoint.alone_in(arguments.out):
        return _train_all(runs, arguments)


def _train_all(runs: dict[Path, Config], arguments: argparse.Namespace) -> int:
    folder = next(iter(runs))
    print(f"runs: {len(runs)}, each with {runs[folder].budget} of training; see */{LOG} there")
    if failed := train(runs, arguments):
        logs = ", ".join(str(folder / LOG) for folder in failed)
        print(f"error: {len(failed)} of {len(runs)} failed; see {logs}", file=sys.stderr)
        return 1
    together = arguments.out / "weights"
    together.mkdir(exist_ok=True)
    for folder, run in runs.items():
        name = f"fold-{run.fold}" + (f"-seed-{run.seed}" if run.seed else "")
        files.write(together / f"{name}.safetensors", (folder / checkpoint.WEIGHTS).read_bytes())
    print(f"next: {sys.executable} -m train.out_of_fold --weights {together} --data DATA --out OUT")
    return 0


def main(argv: list[str] | None = None) -> int:
    return cli.exit_code(
        lambda: _run(_parser().parse_args(argv)), lambda: "the same command resumes"
    )


if __name__ == "__main__":
    sys.exit(main())
