"""Environments that see only some packages of this one: made in a second, without a network."""

from __future__ import annotations

import os
import sysconfig
import venv
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make(folder: Path, requirements: list[str]) -> Path:
    """Make an environment with the packages of `requirements`, and those that they need."""
    venv.create(folder, symlinks=True)
    link(folder, requirements)
    return folder


def link(environment: Path, requirements: list[str]) -> None:
    """Let an environment see packages of this one, those that they need, and their programs."""
    place = Path(sysconfig.get_path("purelib", vars={"base": os.fspath(environment)}))
    todo, seen = [Requirement(text) for text in requirements], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = metadata.distribution(name)
        assert found.version in requirement.specifier, f"{name} is {found.version}: {requirement}"
        todo += map(Requirement, found.requires or [])
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            with suppress(FileExistsError):
                (place / top).symlink_to(found.locate_file(top))
        for program in found.entry_points.select(group="console_scripts"):
            script = environment / "bin" / program.name
            script.write_text(
                f"#!{environment / 'bin' / 'python'}\n"
                f"import sys\nfrom {program.module} import {program.attr}\n"
                f"sys.exit({program.attr}())\n"
            )
            script.chmod(0o755)
