import pytest

from train.augment import WINDOW
from train.config import CONFIGURATIONS, Config
from train.network import STRIDE


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_can_be_trained(name):
    config = Config(data="d", **{"minutes": 1} | CONFIGURATIONS[name])
    assert config.scales[-1][0] == 1.0
    for _, scale in config.scales:
        assert not any(side * scale % STRIDE for side in WINDOW)


def test_fine_tuning_is_gentler_than_training():
    tuned, default = Config(data="d", **CONFIGURATIONS["fine-tune"]), Config(data="d", steps=1)
    assert tuned.learning_rate < default.learning_rate
    assert tuned.budget == "30 min"


def test_progress_is_of_the_budget_and_never_above_it():
    assert Config(data="", minutes=2).progress(1000, 30) == 0.25
    assert Config(data="", steps=200).progress(50, 1e9) == 0.25
    assert Config(data="", steps=200).progress(500, 0) == Config(data="", minutes=1).progress(0, 99)


@pytest.mark.parametrize(
    "settings", [{}, {"minutes": 0}, {"steps": -1}, {"minutes": 1, "steps": 1}]
)
def test_there_is_one_budget(settings):
    with pytest.raises(ValueError, match="one budget above zero"):
        Config(data="", **settings)
