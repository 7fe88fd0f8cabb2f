"""Average the weights of two networks: `python -m train.average A B --share 0.5 --out C`.

A and B are weights of one architecture, as a rule a network and what was fine-tuned from it, or
folders with fold-K.safetensors of both; --share is that of B. The average keeps more of what A knew
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903). Exit codes:
0 done, 1 a file could not be written, 2 bad input.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from train import cli, weights
from train.canonical import Upright
from train.weights import Weights, sha256
from tumour_segmenter import files
from tumour_segmenter.errors import UsageError


def average(one: Weights, other: Weights, share: float) -> Weights:
    """(1 - share) of one, share of the other, batch norms included; the facts are those of the
    other, and all images that either was trained on. share: 0..1. Raises ValueError where
    they are of two folds, so that nobody could be measured on."""
    folds = [of.facts.get("fold", "?") for of in (one, other)]
    if folds[0] != folds[1]:
        raise ValueError(f"they are of folds {folds[0]} and {folds[1]}; average those of one fold")
    a, b = (of.network.state_dict() for of in (one, other))
    mixed = {
        name: torch.lerp(value, b[name], share) if value.is_floating_point() else value
        for name, value in a.items()
    }
    network = type(one.network)()
    network.load_state_dict(mixed)
    upright = torch.lerp(one.upright.weights, other.upright.weights, share)
    images = (set(json.loads(of.facts["trained_on"])) for of in (one, other))
    facts = one.facts | other.facts | {"trained_on": json.dumps(sorted(set.union(*images)))}
    return Weights(network.eval(), facts, Upright(upright.tolist()))


def _pairs(one: Path, other: Path, out: Path) -> list[tuple[Path, Path, Path]]:
    """Files to average and to write."""
    if not (one.is_dir() or other.is_dir()):
        return [(one, other, out)]
    if not (one.is_dir() and other.is_dir()):
        raise UsageError("give two files, or two folders of fold-K.safetensors")
    names, theirs = ({path.name for path in of.glob("fold-*.safetensors")} for of in (one, other))
    if not names:
        raise UsageError(f"{one}: holds no fold-K.safetensors")
    if lacking := names ^ theirs:
        name = min(lacking)
        raise UsageError(f"{other if name in names else one}: has no {name}, which the other has")
    return [(one / name, other / name, out / name) for name in sorted(names)]


def _parser() -> argparse.ArgumentParser:
    usage = {"prog": "python -m train.average", "description": __doc__.split("\n")[0]}
    parser = argparse.ArgumentParser(**usage)
    parser.add_argument("one", type=Path, metavar="A", help="weights, or a folder of them")
    parser.add_argument("other", type=Path, metavar="B", help="likewise, as a rule fine-tuned")
    parser.add_argument("--share", type=float, default=0.5, help="of B, 0 to 1 (default 0.5)")
    parser.add_argument("--out", type=Path, required=True, help="file, or folder of both are")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.share <= 1:
        raise UsageError(f"--share is {arguments.share:g}, expected 0 to 1")
    pairs = _pairs(arguments.one, arguments.other, arguments.out)
    read = [path for one, other, _ in pairs for path in (one, other)]
    files.check_outputs(read, [out for *_, out in pairs])
    # All before the first is written: a folder of which some are missing would look like a whole.
    every = [average(*map(weights.load, pair[:2]), arguments.share) for pair in pairs]
    for mixed, (one, other, out) in zip(every, pairs, strict=True):
        hashes = f"{sha256(one)[:16]} and {sha256(other)[:16]}"
        made = f"average, {arguments.share:g} of the second: sha256 {hashes}"
        facts = mixed.facts | {"started_from": made}
        weights.save(out, mixed.network, facts, mixed.upright)
        print(f"weights: {out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    return cli.exit_code(lambda: _run(_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
