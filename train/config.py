"""The settings of a run: the defaults, and the configurations that change some of them."""

from dataclasses import dataclass

PRECISIONS = ("float32", "bfloat16")
CONFIGURATIONS: dict[str, dict] = {
    "default": {},
    # For your own scans, with --start-from: see docs/own-data.md.
    "fine-tune": {
        "minutes": 30.0,
        "steps_per_epoch": 200,
        "patients_per_batch": 5,
        "controls_per_batch": 3,
        "scales": ((0.5, 0.75), (1.0, 1.0)),
        "learning_rate": 1e-3,
        "encoder_rate": 0.5,
    },
}


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run does; kept in the run's folder, checkpoint and weights.
    Raises ValueError where the budget is not one number above 0, or the seed is below 0."""

    data: str
    fold: int = 0
    seed: int = 0
    # One of the two is the budget, which the learning rate's schedule is fitted to.
    minutes: float | None = None
    steps: int | None = None
    steps_per_epoch: int = 1500
    patients_per_batch: int = 15
    controls_per_batch: int = 9
    transplants_onto_patients: float = 0.3
    transplants_onto_controls: float = 0.7
    # Share of people who are mixed from two MIPs, one above and one below some row.
    mixed: float = 0.35
    # Until which share of the run images are trained on at which scale. Small ones cost a
    # half: most of the anatomy is learnt cheaply, the outlines at the end.
    scales: tuple[tuple[float, float], ...] = ((0.4, 0.75), (1.0, 1.0))
    # Share of images that skip the deepest residual block, in training; earlier ones less often.
    drop_path: float = 0.1
    learning_rate: float = 3e-3
    # The encoder's learning rate as a share of the others': it is pretrained.
    encoder_rate: float = 0.3
    weight_decay: float = 0.05
    ema_decay: float = 0.999
    precision: str = "float32"
    # Weights that are fine-tuned, in place of ImageNet's.
    start_from: str | None = None

    def __post_init__(self) -> None:
        if ((self.minutes or 0) > 0) + ((self.steps or 0) > 0) != 1:
            raise ValueError("give one budget above zero, --minutes M or --steps N")
        if self.seed < 0:
            raise ValueError(f"--seed is {self.seed}, expected 0 or more")

    @property
    def budget(self) -> str:
        """In words."""
        return f"{self.minutes:g} min" if self.minutes else f"{self.steps} steps"

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the budget, 0..1, that so many steps in so many seconds use up."""
        if self.minutes:
            return min(1.0, seconds / 60 / self.minutes)
        return min(1.0, steps / self.steps)
