import pytest

from train import config
from train.config import Config


def _file(tmp_path, text: str):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names(tmp_path):
    path = _file(tmp_path, 'about = "why"\nminutes = 5\nscales = [[1.0, 0.5]]\nintensity = 1\n')
    settings = config.read(path)
    assert settings == {"minutes": 5, "scales": [[1.0, 0.5]], "intensity": 1}
    assert Config(data="d", source_commit="c", **settings).scales == ((1.0, 0.5),)
    assert config.about(path) == "why"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1", "learning_rat is no setting"),
        ("fold = 1", "fold is no setting"),
        ('learning_rate = "fast"', "learning_rate is 'fast'"),
        ("seed = true", "seed is True"),
        ("view_scales = [1.0, 1.2]", "view scale 1.2 is below 1 or no multiple of 1/8"),
        ("view_scales = [0.5]", "view scale 0.5 is below 1"),
        ("precision = 16", "precision is 16"),
        ("scales = 1", "scales is 1"),
        ('minutes = "5"', "minutes is '5'"),
        ("full_resolution = 1", "full_resolution is 1"),
        ("encoder_weights = 1", "encoder_weights is 1"),
        ("scales = [[1.0, 0.3]]", "scale 0.3 makes 512×256 no multiple of 64"),
        ("minutes = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        config.read(_file(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no\.toml"):
        config.read(tmp_path / "no.toml")


def test_every_experiment_kept_can_be_read():
    kept = sorted((config.Path(config.__file__).parent / "experiments").glob("*.toml"))
    assert kept
    for path in kept:
        settings = config.read(path)
        assert {"minutes", "epochs"} & settings.keys(), path
        assert config.about(path), path


@pytest.mark.parametrize(
    ("stored", "scales"),
    [({}, (1.25,)), ({"view_scale": 1.0}, (1.0,)), ({"view_scales": [1.0, 1.5]}, (1.0, 1.5))],
)
def test_settings_of_older_versions_are_understood(stored, scales):
    assert config.stored({"data": "d", "source_commit": "c", **stored}).view_scales == scales
