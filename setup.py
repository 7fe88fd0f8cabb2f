"""Builds the package: gunicorn's configuration lies in the project's folder, and goes with it."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGURATION = "gunicorn.conf.py"


class BuildWithConfiguration(build_py):
    """Puts the configuration beside the model, where `tumour-segmenter serve` looks for it."""

    def run(self) -> None:
        super().run()
        target = Path(self.build_lib, "serve", "artifacts", CONFIGURATION)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(CONFIGURATION, str(target))


setup(cmdclass={"build_py": BuildWithConfiguration})
