"""Trained networks and what identifies them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train import weights
from train.weights import Weights, sha256


@dataclass(frozen=True)
class Member:
    """A trained network and what identifies it."""

    path: Path
    weights: Weights
    sha256: str

    @property
    def identity(self) -> dict[str, str | int]:
        """JSON values: file, fold, seed, sha256."""
        numbers = {name: int(self.weights.facts[name]) for name in ("fold", "seed")}
        return {"file": self.path.name, **numbers, "sha256": self.sha256}

    @property
    def trained_on(self) -> set[str]:
        """Hashes of images."""
        return set(json.loads(self.weights.facts["trained_on"]))


def load_members(paths: Sequence[Path]) -> list[Member]:
    """The networks in files, and in all *.safetensors of folders; raises ValueError."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: holds no *.safetensors; train.fit and train.crossval do")
        found += [file for file in inside if file not in found]
    members = [Member(path, weights.load(path), sha256(path)) for path in found]
    for member in members:
        if missing := {"fold", "seed", "trained_on"} - member.weights.facts.keys():
            raise ValueError(f"{member.path}: has no {min(missing)} among its facts; train again")
    if len({member.sha256 for member in members}) < len(members):
        raise ValueError("two of the weights files are the same network; give each one once")
    return members
