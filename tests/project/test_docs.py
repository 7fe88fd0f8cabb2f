"""What the documents say is so: their examples run, their tables and commands exist."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tumour_segmenter
from serve.page import EXAMPLES
from serve.settings import VARIABLES
from tests.conftest import PROJECT, SHIPPED
from tumour_segmenter.contract import decode_png
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
README = PROJECT / "README.md"
API = (PROJECT / "docs" / "api.md").read_text()

# Language of a code block -> how to run it.
RUNNERS = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--input-type=module", "-e"],
}
BLOCKS = [
    pytest.param(language, code, id=f"{language}-{number}")
    for number, (language, code) in enumerate(
        re.findall(r"```(\w+)\n(.*?)```", API + README.read_text(), re.S)
    )
    if language in RUNNERS and not re.match(r"(\w+=\S+ )?make |\.venv", code)
]


def blocks(text: str, *languages: str) -> str:
    """Return the code blocks of `text` in these languages, one after the other."""
    found = re.findall(r"^ *```(\w+)\n(.*?)^ *```", text, re.S | re.M)
    return "".join(code for language, code in found if language in languages)


# The API


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_example_of_the_api_runs(live_server, tmp_path, language, code):
    program = RUNNERS[language][0]
    if not shutil.which(program) or ("curl " in code and not shutil.which("curl")):
        pytest.skip(f"needs {program}, and curl where it is used")
    pixels, _ = phantom(**EXAMPLES[0])
    if "examples/1.png" not in code:
        url = f"{live_server}/examples/1.png"
        code_before = f"import urllib.request as u; u.urlretrieve({url!r}, 'scan.png')"
        subprocess.run([sys.executable, "-c", code_before], cwd=tmp_path, check=True)
    code = code.replace("http://127.0.0.1:8000", live_server)
    run = subprocess.run(
        [*RUNNERS[language], code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    if "mask.png" in code:
        mask = decode_png((tmp_path / "mask.png").read_bytes())
        np.testing.assert_array_equal(mask, Baseline()(pixels))
    elif "scan.png" in code:
        np.testing.assert_array_equal(decode_png((tmp_path / "scan.png").read_bytes()), pixels)
    else:
        answers = json.loads("[" + run.stdout.replace("}\n{", "}, {") + "]")
        assert all(answers)
        assert len(answers) == code.count("curl ")


def test_api_has_an_example_in_each_language():
    assert {block.values[0] for block in BLOCKS} == set(RUNNERS)


def test_every_path_and_status_of_the_description_is_explained():
    description = json.loads((PROJECT / "serve" / "openapi.json").read_text())
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in API
            for status in operation["responses"]:
                assert status == "200" or f"| {status} |" in API


def test_every_code_of_an_error_is_explained():
    rooms = (PROJECT / "tumour_segmenter", PROJECT / "serve")
    source = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    codes = set(re.findall(r'ContractError\(\s*"(\w+)"', source))
    codes |= set(re.findall(r'(?<!: )[45]\d\d, "(\w+)"', source))
    codes |= set(re.findall(r'api_code = "(\w+)"', source))
    explained = set(re.findall(r"^\| \d+ \| `(\w+)` \|", API, re.M))
    assert {"broken_png", "overloaded", "uri_too_long"} <= codes
    assert codes - explained == {"bad_answer", "bad_mask"}  # of answers, never in one


# Settings, commands, links, versions


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else ""
        rows.append(f"| `{variable.name}` | {default} | {variable.help} |")
    return "\n".join(rows)


def test_readme_lists_every_setting():
    table = re.search(r"<!-- settings -->\n+(.*?)\n+<!-- /settings -->", README.read_text(), re.S)
    assert table, "the README has no <!-- settings --> ... <!-- /settings -->"
    assert table[1] == settings_table()


def test_commands_of_make_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.M))
    named = {
        (document.name, target)
        for document in DOCUMENTS
        for code in [blocks(document.read_text(), "sh", "text"), *inline(document)]
        for target in re.findall(r"(?:^|[;&(]) *make ([a-z-]+)", code, re.M)
    }
    assert len(named) > 3
    assert {(name, target) for name, target in named if target not in targets} == set()


def inline(document: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", document.read_text())


ROOMS = "tumour_segmenter|serve|scan|train|export"
SUBCOMMANDS = ("predict", "merge", "serve")


def commands() -> list[tuple[str, ...]]:
    """Return program and options of each command of ours in a document: -m module or a script."""
    found = set()
    for document in DOCUMENTS:
        code = blocks(document.read_text(), "sh", "text").replace("\\\n", " ")
        for line in [*code.splitlines(), *inline(document)]:
            match = re.search(rf"python3? (-m (?:{ROOMS})\S*|benchmarks/\S+\.py)(.*)", line)
            if match:
                rest = match[2].split()
                program = [*match[1].split(), *(name for name in rest[:1] if name in SUBCOMMANDS)]
                options = [word for word in rest if word.startswith("--")]
                found.add((*program, "--help", *sorted(set(options) - {"--help"})))
    return sorted(found)


@functools.cache  # some take seconds, for they load PyTorch
def help_of(program: tuple[str, ...]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_python_know_their_options(command):
    at = command.index("--help")
    run = help_of(command[:at])
    if missing := re.search(r"No module named '((?:torch|onnx)\w*)'", run.stderr):
        pytest.skip(f"needs {missing[1]}")
    assert run.returncode == 0, run.stderr
    for option in command[at + 1 :]:
        assert re.search(rf"{option}\b", run.stdout)


def anchors(document: Path) -> set[str]:
    """Return what a link may name of a Markdown file: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(document):
    text = document.read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if not target.startswith(("http://", "https://")):
            path = document.parent / target if target else document
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"
    for name in inline(document):
        if re.fullmatch(r"(serve|train|export|benchmarks|tests|docs)/[\w/]+\.\w+", name):
            assert (PROJECT / name).exists(), name


def test_map_of_the_house_names_files_that_exist():
    house = blocks((PROJECT / "CONTRIBUTING.md").read_text(), "text")
    folder, named = "", []
    for line in house.splitlines():
        name = line.split()[0]
        folder = name if name.endswith("/") else folder
        named.append(folder if name.endswith("/") else folder + name)
    assert len(named) > 15
    assert [name for name in named if name != "artifacts/" and not (PROJECT / name).exists()] == []


def test_version_is_the_same_everywhere(client):
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\d\S*)", changelog, re.M)[1] == tumour_segmenter.__version__
    assert client.get("/api").json["version"] == tumour_segmenter.__version__
    assert client.get("/openapi.json").json["info"]["version"] == tumour_segmenter.__version__
    command = [sys.executable, "-m", "tumour_segmenter", "--version"]
    assert (
        subprocess.check_output(command, cwd=PROJECT, text=True).strip()
        == tumour_segmenter.__version__
    )


def test_model_card_is_of_the_shipped_file():
    import onnx

    properties = {p.key: p.value for p in onnx.load(SHIPPED).metadata_props}
    assert properties["version"] == tumour_segmenter.__version__
    card = (PROJECT / "artifacts/MODEL_CARD.md").read_text()
    assert card.startswith(f"# Model card: tumour segmenter {tumour_segmenter.__version__}\n")
