"""The settings of a run, and the small TOML files of `train/experiments/` that change some."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import get_origin

from train.augment import WINDOW
from train.evaluate import VIEW_MULTIPLE
from train.old_encoder import STAGES
from train.old_network import STRIDE

PRECISIONS = ("float32", "bfloat16")
IMAGENET = "imagenet"
"""In place of a file of encoder weights: that of the encoder's package."""


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run does; stored in the run's folder and in the checkpoint."""

    data: str
    source_commit: str
    fold: int | None = 0
    minutes: float | None = None
    epochs: int | None = None
    steps_per_epoch: int = 300
    width: float = 1.0
    full_resolution: bool = False
    context: bool = False
    encoder: str = "mobilenet_v2"
    seed: int = 0
    fold_seed: int = 0
    patients_per_batch: int = 5
    controls_per_batch: int = 3
    transplants_onto_patients: float = 0.3
    transplants_onto_controls: float = 0.7
    # Until which share of the run images are trained on at which scale. Small ones cost a
    # quarter: most of the anatomy is learnt cheaply, the outlines at the end.
    scales: tuple[tuple[float, float], ...] = ((0.3, 0.5), (0.6, 0.75), (1.0, 1.0))
    # At which scales the network sees whole images, each with its mirror image.
    view_scales: tuple[float, ...] = (1.25,)
    # Whether labels were drawn slice by slice (train/slices.py); fit looks, unless it is told.
    by_slices: bool = True
    # Whether the loss is of the logits as they are served, enlarged and with detail, in place of
    # those at half resolution.
    as_served: bool = False
    # Share of images whose gamma, and of those whose gain, is changed.
    intensity: float = 0.3
    # How far images are turned, enlarged and stretched, as a multiple of 9°, e^0.2 and e^0.07.
    geometry: float = 1.0
    # Share of people who are put together of two, one above and one below some row.
    joined: float = 0.0
    # Share of images that skip the deepest residual block, in training; earlier ones less often.
    drop_path: float = 0.0
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.999
    precision: str = "float32"
    # The encoder's learning rate as a share of the others': what it starts from is good already.
    encoder_rate: float = 1.0
    # IMAGENET, or a file of such weights.
    encoder_weights: str | None = None
    encoder_weights_sha256: str | None = None
    start_from: str | None = None
    start_from_sha256: str | None = None
    # Share of the weights that the run started from in those it ends with: between two good
    # networks lies often a better one (Wortsman et al. 2022, arXiv 2109.01903).
    start_share: float = 0.0
    # Folders of finished runs whose networks teach this one, and the share of the loss they have.
    teachers: tuple[str, ...] = ()
    teachers_sha256: tuple[str, ...] = ()
    teacher_share: float = 0.5

    def __post_init__(self) -> None:
        # Checkpoints and TOML know lists only.
        object.__setattr__(self, "scales", tuple(tuple(pair) for pair in self.scales))
        for name in ("view_scales", "teachers", "teachers_sha256"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def predecessors(self) -> list[Path]:
        """What the run goes on from and what teaches it."""
        return [Path(path) for path in (self.start_from, *self.teachers) if path]

    def progress(self, epochs: float, seconds: float) -> float:
        """Share of the budget, 0..1, that so many epochs in so many seconds use up."""
        if self.minutes is not None:
            return min(1.0, seconds / 60 / self.minutes)
        return epochs / self.epochs if self.epochs else 1.0


PATHS = ("data", "start_from", "teachers", "encoder_weights")
"""Settings that mean something on one machine only; digests say what was there."""

# What the command line and the data decide, not an experiment.
_NOT_IN_FILES = {
    "data",
    "source_commit",
    "fold",
    "start_from_sha256",
    "encoder_weights_sha256",
    "teachers",
    "teachers_sha256",
}


FIRST_VIEW_SCALE = 1.25
"""At which version 0.2.0, which did not say so, saw images."""


def stored_view_scales(settings: dict) -> tuple[float, ...]:
    """Of settings as any version stored them; before 0.6.0 there was one scale."""
    one = settings.get("view_scale", FIRST_VIEW_SCALE)
    return tuple(settings.get("view_scales", (one,)))


def stored(settings: dict) -> Config:
    """The settings that a checkpoint of any version holds."""
    others = {name: value for name, value in settings.items() if name != "view_scale"}
    return Config(**others | {"view_scales": stored_view_scales(settings)})


def _parse(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as TOML ({error})") from error


def about(path: Path) -> str:
    """What the experiment is for: its setting `about`; raises ValueError."""
    return str(_parse(path).get("about", "")).strip()


def _fits(value: object, kind: type) -> bool:
    """Whether a value of a TOML file may stand for a field of Config of that type."""
    if isinstance(value, bool | list):
        return kind is bool if isinstance(value, bool) else get_origin(kind) is tuple
    if get_origin(kind) is tuple:
        return False
    whole = isinstance(value, int) and isinstance(float(value), kind)
    return isinstance(value, kind) or whole


def read(path: Path) -> dict:
    """The settings that an experiment's file changes, by name of the field of Config.

    Raises ValueError where it cannot be read, names an unknown setting or has a wrong type.
    """
    settings = _parse(path)
    settings.pop("about", None)
    known = {f.name: f for f in dataclasses.fields(Config) if f.name not in _NOT_IN_FILES}
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"{path}: {unknown[0]} is no setting; expected {', '.join(known)}")
    for name, value in settings.items():
        if not _fits(value, known[name].type):
            raise ValueError(f"{path}: {name} is {value!r}, expected {known[name].type}")
    if settings.get("encoder", Config.encoder) not in STAGES:
        raise ValueError(
            f"{path}: encoder is {settings['encoder']!r}, expected one of {', '.join(STAGES)}"
        )
    for _, scale in settings.get("scales", ()):
        if any(side * scale % STRIDE for side in WINDOW):
            raise ValueError(
                f"{path}: scale {scale} makes {WINDOW[0]}×{WINDOW[1]} no multiple of {STRIDE}"
            )
    for scale in settings.get("view_scales", (1.0,)):
        if scale < 1 or scale * VIEW_MULTIPLE % 1:
            raise ValueError(
                f"{path}: view scale {scale} is below 1 or no multiple of 1/{VIEW_MULTIPLE}"
            )
    return settings
