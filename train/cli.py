"""What the commands of this folder have in common: options, settings, and how they end."""

import argparse
from collections.abc import Callable
from pathlib import Path

from train.config import CONFIGURATIONS, PRECISIONS
from tumour_segmenter import command


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that a run and a cross-validation have in common."""
    parser.add_argument("--data", type=Path, help="folder with patients/ and controls/")
    parser.add_argument("--out", type=Path, required=True, help="a new folder, e.g. runs/first")
    start = "weights to fine-tune; for all folds also a folder with fold-K.safetensors for each"
    parser.add_argument("--start-from", type=Path, metavar="PATH", help=start)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="time budget; fine-tune: 30")
    budget.add_argument("--steps", type=int, help="budget in steps, in place of --minutes")
    parser.add_argument("--config", choices=CONFIGURATIONS, help="training configuration")
    parser.add_argument("--precision", choices=PRECISIONS, help="default: bfloat16 where fast")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The option of commands that read trained networks."""
    what = "safetensors files of train.fit, or folders of them"
    parser.add_argument("--weights", type=Path, nargs="+", required=True, metavar="PATH", help=what)


def bfloat16_pays() -> bool:
    """Whether the GPU, or without one the CPU, computes in bfloat16 faster than in float32."""
    import torch  # here, as commands that share the rest need none for --help

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def settings_of(arguments: argparse.Namespace) -> dict:
    """Settings of --config and of the options, which come first."""
    settings = dict(CONFIGURATIONS[arguments.config or "default"])
    if arguments.minutes is not None or arguments.steps is not None:
        settings |= {"minutes": arguments.minutes, "steps": arguments.steps}
    return settings | {"precision": arguments.precision or PRECISIONS[bfloat16_pays()]}


def exit_code(
    work: Callable[[], int], interrupted: Callable[[], str] = lambda: "nothing was written"
) -> int:
    """Do the work and return its exit code; bad input is one line, and 2."""
    return command.exit_code(
        work, ValueError, interrupted=lambda: f"\ninterrupted; {interrupted()}"
    )
