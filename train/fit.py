"""Train one network: `python -m train.fit --data DIR --out runs/NAME --minutes 30`.

It starts from ImageNet weights, or from those of `--start-from`. The run's folder gets config.json,
folds.json, log.csv, curves.png, preview.png, while it trains last.pt, and in the end
weights.safetensors. After an interruption `python -m train.fit --resume --out runs/NAME` resumes.
Exit codes: 0 done, 1 a file could not be written, 2 bad input, 130 interrupted.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from train import augment, canonical, checkpoint, cli, dataset, detail, plots, pretrained, weights
from train.batches import Batches
from train.config import Config
from train.network import UNet
from train.optimiser import average_of, bce_and_dice, learning_rate_at, optimiser_of, scale_at, step
from train.segmentation import Segmentation
from train.synthesis import Donor
from tumour_segmenter import contract, files
from tumour_segmenter.command import ignore_closed_output
from tumour_segmenter.errors import UsageError
from tumour_segmenter.lesions import FAILURE
from tumour_segmenter.progress import bar

LONGEST_EPOCH = 600.0  # seconds, as what came after an epoch's checkpoint is lost in a stopped run
OF_THIS_MACHINE = ("data", "start_from")  # paths; hashes among the facts identify what was there


def fit(config: Config, out: Path, device: torch.device, state: dict | None = None) -> None:
    """Train until the budget is used up; state: a checkpoint of this run, None to begin. Raises
    ValueError where data or weights are not fit for it, OSError where the folder is not."""
    # Data: five folds by patient, of which one is validated on and never trained on.
    cases = dataset.load(Path(config.data))
    data_hash = dataset.fingerprint(cases)
    folds = dataset.folds(cases)
    training = [case for case in cases if folds[case.name] != config.fold]
    validation = [case for case in cases if folds[case.name] == config.fold]
    patients = [case for case in training if case.is_patient]
    controls = [case for case in training if not case.is_patient]
    donors = [donor for donor in map(Donor, patients) if donor.lesions]
    judged = [case for case in validation if case.is_patient]
    if len(judged) < 2:
        raise ValueError(
            f"fold {config.fold} has {len(judged)} of {len(patients) + len(judged)} patients for "
            f"validation, too few to measure anything; {2 * dataset.FOLDS} patients are enough"
        )
    if state and state["facts"]["data_fingerprint"] != data_hash:
        raise ValueError(f"{config.data}: not the data that the run was started with")

    # Network: the one that is trained, and the moving average of its weights, which is used.
    torch.manual_seed(config.seed)
    network = UNet(config.drop_path)
    origin = {} if state else pretrained.load_start(network, config, validation)
    network.to(device, memory_format=torch.channels_last)
    average = average_of(network, config)
    by_slices = detail.kept_by(case.truth for case in cases)
    upright = canonical.Upright(canonical.learn_upright(training))
    segmentation = Segmentation([average.module], upright, by_slices).to(device)

    # Optimiser, and where the run stands.
    optimiser = optimiser_of(network, config)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    if state:
        steps, seconds, log, facts = (state[k] for k in ("steps", "seconds", "log", "facts"))
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
    else:
        steps, seconds, log = 0, 0.0, []
        settings = {k: v for k, v in asdict(config).items() if k not in OF_THIS_MACHINE}
        trained_on = {*json.loads(origin["trained_on"]), *(case.hash for case in training)}
        facts = origin | {
            "fold": str(config.fold),
            "seed": str(config.seed),
            "data_fingerprint": data_hash,
            "training_commit": weights.source_commit("train", "tumour_segmenter"),
            "trained_on": json.dumps(sorted(trained_on)),
            "settings": json.dumps(settings | {"by_slices": by_slices}),
        }
        files.write_json(out / "config.json", asdict(config))
        files.write_json(out / "folds.json", {"data": data_hash, "folds": folds})
    print(
        f"device: {torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}, "
        f"{torch.get_num_threads()} threads, precision {config.precision}\n"
        f"data: {config.data}, {sum(c.is_patient for c in cases)} patients, "
        f"{sum(not c.is_patient for c in cases)} controls\n"
        f"fold {config.fold} of {dataset.FOLDS}: {len(judged)} patients are validated on, "
        f"{len(patients)} patients and {len(controls)} controls are trained on\n"
        f"from: {config.start_from or 'ImageNet weights'}, seed {config.seed}\n"
        f"batch: patients {config.patients_per_batch}, controls {config.controls_per_batch}\n"
        f"budget: {config.budget} of training, {config.progress(steps, seconds):.0%} used; "
        f"checkpoint and validation after {config.steps_per_epoch} steps or "
        f"{LONGEST_EPOCH / 60:g} minutes",
        flush=True,
    )

    # Loop: an epoch of steps, then validation, then a checkpoint.
    while config.progress(steps, seconds) < 1:
        network.train()
        began, before, losses = time.monotonic(), seconds, []
        batches = Batches(patients, controls, donors, config, first_step=steps).ahead_of(device)
        done = 100 * config.progress(steps, seconds)
        with bar(total=100, initial=done, desc="training", unit="%") as shown:
            for planes, centres, seed in batches:
                progress = config.progress(steps, seconds)
                if progress >= 1 or (losses and seconds - before > LONGEST_EPOCH):
                    break
                torch.manual_seed(seed)
                generator = torch.Generator().manual_seed(seed)
                scale = scale_at(progress, config.scales)
                uptake, truth = augment.vary(planes, centres, scale, generator, device)
                with autocast:
                    logits = network(uptake.contiguous(memory_format=torch.channels_last))
                loss = bce_and_dice(logits, truth)
                rate = learning_rate_at(progress, config.learning_rate)
                step(network, optimiser, loss, rate)
                average.update_parameters(network)
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    raise ValueError(f"the loss of step {steps} is not finite: it has diverged")
                steps, seconds = steps + 1, before + time.monotonic() - began
                loss = f"{np.mean(losses[-50:]):.3f}"
                shown.set_postfix(step=steps, loss=loss, refresh=False)
                shown.update(100 * config.progress(steps, seconds) - shown.n)

        predicted = []
        for case in bar(judged, desc="validation", unit="patients"):
            mask = segmentation.of_image(case.uptake) > 0
            predicted.append((case, mask, contract.dice(case.truth, mask)))
        dice = np.array([of_one for _, _, of_one in predicted])
        row = {
            "epoch": len(log) + 1,
            "steps": steps,
            "minutes": f"{seconds / 60:.2f}",
            "learning_rate": f"{rate:.2e}",
            "train_loss": f"{np.mean(losses):.4f}",
            "dice_mean": f"{dice.mean():.4f}",
            "dice_median": f"{np.median(dice):.4f}",
            "failures": int((dice < FAILURE).sum()),
        }
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)

        log = [*log, row]
        state = {"config": asdict(config), "facts": facts, "log": log}
        state |= {"steps": steps, "seconds": seconds, "network": network.state_dict()}
        state |= {"average": average.state_dict(), "optimiser": optimiser.state_dict()}
        checkpoint.save(out, state)
        plots.learning_curves(log, out / "curves.png")
        plots.preview_sheet(predicted, out / "preview.png")

    # Weights: all that is left of the network. They mean that the run is done.
    facts = facts | {"steps": str(steps), "minutes": f"{seconds / 60:.2f}"}
    weights.save(out / checkpoint.WEIGHTS, average.module, facts, upright)
    (out / checkpoint.CHECKPOINT).unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.fit", description=__doc__.split("\n")[0])
    parser.add_argument("--resume", action="store_true", help="resume the run in --out")
    folds = range(dataset.FOLDS)
    parser.add_argument("--fold", type=int, choices=folds, help="to validate on (default 0)")
    parser.add_argument("--seed", type=int, help="of weights, order, augmentation (default 0)")
    cli.add_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    out, finished = arguments.out, (arguments.out / checkpoint.WEIGHTS).exists()
    checkpoint.check_folder(out)
    if arguments.resume:
        kept = ("config", "minutes", "steps", "precision", "fold", "seed", "start_from")
        if given := [name for name in kept if getattr(arguments, name) is not None]:
            option = given[0].replace("_", "-")
            raise UsageError(f"--{option} cannot be changed in a run that is resumed")
    elif finished or (out / checkpoint.CHECKPOINT).exists():
        raise UsageError(f"{out} has a run; add --resume to resume it, or choose another --out")
    elif arguments.data is None:
        raise UsageError("--data is needed to start a run")
    if not finished:
        state = checkpoint.load(out) if arguments.resume else None
        settings = state["config"] if state else cli.settings_of(arguments)
        for name in ("data", "fold", "seed", "start_from"):
            if (value := getattr(arguments, name)) is not None:
                settings[name] = str(value) if isinstance(value, Path) else value
        config = Config(**settings)
        with checkpoint.alone_in(out):
            fit(config, out, torch.device("cuda" if torch.cuda.is_available() else "cpu"), state)
    path, data = out / checkpoint.WEIGHTS, arguments.data or "DATA"
    print(f"weights: {path}\nnext: {sys.executable} -m export --weights {path} --data {data}")
    return 0


def main(argv: list[str] | None = None) -> int:
    ignore_closed_output()
    arguments = _parser().parse_args(argv)

    def again() -> str:
        if not (arguments.out / checkpoint.CHECKPOINT).exists():
            return "start again"
        return f"resume with: {sys.executable} -m train.fit --resume --out {arguments.out}"

    # Denormal weights and gradients slow a CPU down and change nothing.
    torch.set_flush_denormal(True)
    return cli.exit_code(lambda: _run(arguments), again)


if __name__ == "__main__":
    sys.exit(main())
