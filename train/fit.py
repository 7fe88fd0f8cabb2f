"""Train one network: `python -m train.fit --data DIR --out runs/NAME --minutes 30`.

The run's folder gets config.json, folds.json, log.csv, curves.png, preview.png, last.pt and, at the
end, held_out.csv, held_out.npz and threshold.json. After an interruption,
`python -m train.fit --resume --out runs/NAME` goes on; for a finished run it writes the figures of
the held-out patients again. Exit codes: 0 done, 2 bad input, 130 interrupted.
"""

import argparse
import csv
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from train import augment, dataset, decision, evaluate, figures, losses
from train.dataset import Case
from train.network import MobileNetUNet, load_encoder_weights
from train.provenance import source_commit
from train.transplant import Donor, transplant

STEPS_PER_EPOCH = 300
WARM_UP = 0.03
SCALES = ((0.3, 0.5), (0.6, 0.75), (1.0, 1.0))
"""Until which share of the run images are trained on at which scale. Small ones cost a quarter:
most of the anatomy is learnt cheaply, the outlines at the end."""
GRADIENT_NORM = 5.0
PREVIEWS = 8
LOG_COLUMNS = (
    "epoch",
    "minutes",
    "learning_rate",
    "train_loss",
    "dice_mean",
    "dice_median",
    "missed",
)


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run does; stored in the run's folder and in the checkpoint."""

    data: str
    source_commit: str
    fold: int | None = 0
    minutes: float | None = None
    epochs: int | None = None
    seed: int = 0
    fold_seed: int = 0
    patients_per_batch: int = 5
    controls_per_batch: int = 3
    transplants_onto_patients: float = 0.3
    transplants_onto_controls: float = 0.7
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.999
    precision: str = "float32"
    encoder_weights: str | None = None


def draw_cases(
    patients: list[Case],
    controls: list[Case],
    donors: list[Donor],
    config: Config,
    rng: np.random.Generator,
) -> list[Case]:
    """One batch of real patients and controls, some of them with transplanted lesions."""
    drawn = []
    for group, count, share in (
        (patients, config.patients_per_batch, config.transplants_onto_patients),
        (controls or patients, config.controls_per_batch, config.transplants_onto_controls),
    ):
        for i in rng.choice(len(group), count, replace=len(group) < count):
            case = group[i]
            if rng.random() < share:
                case = transplant(case, donors[rng.integers(len(donors))], rng)
            drawn.append(case)
    return drawn


def learning_rate_at(progress: float, peak: float) -> float:
    """Linear warm-up, then a cosine to zero; progress 0..1 is the share of the run done."""
    if progress < WARM_UP:
        return peak * (progress + 1e-3) / WARM_UP
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))


def warmed_up_average(decay: float) -> Callable:
    """Exponential moving average that follows closely at first, so that the start is forgotten."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averaged, current, count)

    return update


def scale_at(progress: float) -> float:
    """Scale of the training images when the share `progress` of the run is done."""
    return next(scale for until, scale in SCALES if progress <= until)


class Run:
    """Network, optimiser, average and progress of one run, and how they are kept on disk."""

    def __init__(self, config: Config, out: Path, device: torch.device):
        self.config, self.out, self.device = config, out, device
        torch.manual_seed(config.seed)
        network = MobileNetUNet()
        if config.encoder_weights:
            load_encoder_weights(network, Path(config.encoder_weights))
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network,
            multi_avg_fn=warmed_up_average(config.ema_decay),
            use_buffers=True,
        ).eval()
        # Norms and biases are not decayed: shrinking them only fights batch normalisation.
        flat = [p for p in self.network.parameters() if p.ndim < 2]
        deep = [p for p in self.network.parameters() if p.ndim >= 2]
        self.optimiser = torch.optim.AdamW(
            [{"params": deep, "weight_decay": config.weight_decay}, {"params": flat}],
            lr=config.learning_rate,
            weight_decay=0.0,
        )
        self.epoch, self.seconds = 0, 0.0

    def save(self) -> None:
        """Write last.pt beside, then rename it, so that a kill leaves the old or the new one."""
        partial = self.out / "last.pt.partial"
        with partial.open("wb") as file:
            torch.save(
                {
                    "config": asdict(self.config),
                    "network": self.network.state_dict(),
                    "average": self.average.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "epoch": self.epoch,
                    "seconds": self.seconds,
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.out / "last.pt")

    def restore(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.seconds = state["epoch"], state["seconds"]

    def progress(self, step: int, since: float) -> float:
        """Share of the run done, by time where a time budget is set, else by steps."""
        if self.config.minutes is not None:
            return min(1.0, (self.seconds + time.monotonic() - since) / 60 / self.config.minutes)
        return (self.epoch + step / STEPS_PER_EPOCH) / self.config.epochs

    def train_epoch(self, patients: list[Case], controls: list[Case], donors: list[Donor]) -> float:
        """STEPS_PER_EPOCH steps, fewer when the time is up; return the mean loss."""
        # All randomness of an epoch follows from its number: resuming needs no generator state.
        rng = np.random.default_rng((self.config.seed, self.epoch))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        )
        self.network.train()
        since, total = time.monotonic(), 0.0
        steps = tqdm(
            range(STEPS_PER_EPOCH), desc=f"epoch {self.epoch + 1}", unit="step", leave=False
        )
        for step in steps:
            progress = self.progress(step, since)
            if progress >= 1:
                break
            rate = learning_rate_at(progress, self.config.learning_rate)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            cases = draw_cases(patients, controls, donors, self.config, rng)
            uptake, truth = augment.make_batch(
                cases, scale_at(progress), rng, generator, self.device
            )
            with autocast:
                logits = self.network.half_resolution_logits(
                    uptake.contiguous(memory_format=torch.channels_last)
                )
            loss = losses.bce_and_dice(logits, truth)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.optimiser.step()
            self.average.update_parameters(self.network)
            total += loss.item()
            steps.set_postfix(loss=f"{total / (step + 1):.3f}", done=f"{progress:.0%}")
        self.epoch += 1
        self.seconds += time.monotonic() - since
        return total / max(1, step)

    def finished(self) -> bool:
        return self.progress(0, time.monotonic()) >= 1

    def predict(self, cases: list[Case]) -> dict[str, np.ndarray]:
        """Tumour probability of the averaged network, float32 H×W by name."""
        return {
            case.name: evaluate.tumour_probability(self.average.module, case.uptake, self.device)
            for case in tqdm(cases, desc="held-out images", unit="image", leave=False)
        }


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    partial = path.with_suffix(".csv.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _log_row(run: Run, loss: float, dice: dict[str, float]) -> dict:
    values = np.array(list(dice.values()))
    return {
        "epoch": run.epoch,
        "minutes": f"{run.seconds / 60:.2f}",
        "learning_rate": f"{run.optimiser.param_groups[0]['lr']:.2e}",
        "train_loss": f"{loss:.4f}",
        "dice_mean": f"{values.mean():.4f}" if len(values) else "",
        "dice_median": f"{np.median(values):.4f}" if len(values) else "",
        "missed": int((values < evaluate.MISSED).sum()) if len(values) else "",
    }


def _preview(run: Run, cases: list[Case], dice: dict[str, float]) -> None:
    by_area = sorted((c for c in cases if c.is_patient), key=lambda c: c.truth.sum())
    chosen = [by_area[i] for i in np.linspace(0, len(by_area) - 1, PREVIEWS).astype(int)]
    masks = run.predict(chosen)
    figures.preview_sheet(
        [
            (
                f"{c.name}" + (f"  Dice {dice[c.name]:.2f}" if c.name in dice else ""),
                c,
                masks[c.name] > evaluate.THRESHOLD,
            )
            for c in chosen
        ],
        run.out / "preview.png",
    )


def _report_held_out(run: Run, held_out: list[Case]) -> None:
    """Write what the final network says of everyone it was not trained on."""
    probabilities = run.predict(held_out)
    partial = run.out / "held_out.partial.npz"
    np.savez_compressed(
        partial, **{k: (v * 255).round().astype(np.uint8) for k, v in probabilities.items()}
    )
    partial.replace(run.out / "held_out.npz")
    patients = [c for c in held_out if c.is_patient]
    dice = np.array([decision.dice_by_threshold(probabilities[c.name], c.truth) for c in patients])
    threshold = decision.best_threshold(dice)
    nested = decision.nested_dice(dice)
    dice_of = dict(zip((c.name for c in patients), nested, strict=True))
    masks = {name: probability > threshold for name, probability in probabilities.items()}
    rows = [
        {
            "name": c.name,
            "height": c.truth.shape[0],
            "lesion_area": int(c.truth.sum()),
            "predicted_area": int(masks[c.name].sum()),
            "dice": f"{dice_of[c.name]:.4f}" if c.name in dice_of else "",
        }
        for c in held_out
    ]
    _write_csv(run.out / "held_out.csv", tuple(rows[0]), rows)
    (run.out / "threshold.json").write_text(json.dumps({"threshold": threshold}) + "\n")
    empty = [not masks[c.name].any() for c in held_out if not c.is_patient]
    print(
        f"held-out patients: {len(nested)}, Dice mean {nested.mean():.4f}, "
        f"median {np.median(nested):.4f}, missed (< {evaluate.MISSED}) "
        f"{int((nested < evaluate.MISSED).sum())}, at thresholds chosen on the others; "
        f"threshold {threshold}"
        + (f"; {np.mean(empty):.0%} of controls are empty" if empty else "")
    )


def fit(run: Run, cases: list[Case]) -> None:
    """Train until the budget is used up; evaluate and save after every epoch."""
    folds = dataset.folds(cases, run.config.fold_seed)
    held_out = [c for c in cases if folds[c.name] == run.config.fold]
    training = [c for c in cases if folds[c.name] != run.config.fold]
    patients = [c for c in training if c.is_patient]
    controls = [c for c in training if not c.is_patient]
    donors = [donor for donor in map(Donor, patients) if donor.lesions]
    log = run.out / "log.csv"
    rows = []
    if run.epoch:
        with log.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= run.epoch]
    else:
        facts = {"seed": run.config.fold_seed, "data": dataset.fingerprint(cases), "folds": folds}
        (run.out / "folds.json").write_text(json.dumps(facts, indent=1))
        (run.out / "config.json").write_text(json.dumps(asdict(run.config), indent=1))
    while not run.finished():
        loss = run.train_epoch(patients, controls, donors)
        held_out_patients = [c for c in held_out if c.is_patient]
        dice = evaluate.dice_of_patients(run.predict(held_out_patients), held_out)
        rows.append(_log_row(run, loss, dice))
        _write_csv(log, LOG_COLUMNS, rows)
        run.save()
        tqdm.write("  ".join(f"{k} {v}" for k, v in rows[-1].items()))
        figures.learning_curves(log, run.out / "curves.png")
        if run.epoch % 10 == 0 or run.finished():
            _preview(run, held_out or patients, dice)
    if held_out:
        _report_held_out(run, held_out)


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
    budget.add_argument("--minutes", type=float, help="time budget; the schedule is fitted to it")
    budget.add_argument("--epochs", type=int, help=f"epochs of {STEPS_PER_EPOCH} steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder-weights", type=Path, help="torchvision mobilenet_v2 state dict")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"),
        help="bfloat16 autocast is the default on CUDA; on a CPU it pays where AMX is there",
    )  # fmt: skip
    return parser


def _start(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[Run, Path]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = arguments.out / "last.pt"
    if arguments.resume:
        if not checkpoint.is_file():
            parser.error(f"{checkpoint} does not exist; start the run without --resume")
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        run = Run(Config(**state["config"]), arguments.out, device)
        run.restore(state)
        return run, arguments.data or Path(run.config.data)
    if checkpoint.exists():
        parser.error(f"{checkpoint} exists; add --resume to go on, or choose another --out")
    if arguments.data is None:
        parser.error("--data is needed to start a run")
    if (arguments.minutes or arguments.epochs or 0) <= 0:
        parser.error("give a budget above zero: --minutes M or --epochs N")
    config = Config(
        data=str(arguments.data),
        source_commit=source_commit("train", "serve"),
        fold=None if arguments.fold == "none" else int(arguments.fold),
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        seed=arguments.seed,
        precision=arguments.precision or ("bfloat16" if device.type == "cuda" else "float32"),
        encoder_weights=str(arguments.encoder_weights) if arguments.encoder_weights else None,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    return Run(config, arguments.out, device), arguments.data


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    # Denormal weights and gradients slow a CPU down and change nothing.
    torch.set_flush_denormal(True)
    try:
        run, data = _start(arguments, parser)
        fit(run, dataset.load(data))
    except (dataset.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: python -m train.fit --resume --out {arguments.out}")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
