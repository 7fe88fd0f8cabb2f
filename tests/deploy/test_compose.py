"""compose.yaml: every setting reaches the server, and everything it names exists.

No engine runs here: test_proxy.py runs the nginx, test_server.py the server as the image has it.
"""

import re
from functools import cache

import pytest

from serve.settings import VARIABLES
from tests.conftest import PROJECT

TEXT = (PROJECT / "compose.yaml").read_text()
# Inside the container these are fixed; PORT of the file .env is where nginx listens.
FIXED = {"HOST": "0.0.0.0", "PORT": "8000"}


@cache
def services() -> dict[str, dict]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (requirements-test.txt)")
    return yaml.safe_load(TEXT)["services"]


def test_every_setting_of_the_server_is_passed_on():
    environment = services()["app"]["environment"]
    settings = {variable.name: f"${{{variable.name}:-}}" for variable in VARIABLES} | FIXED
    assert {name: environment.get(name) for name in settings} == settings


def test_nginx_has_the_same_defaults_as_the_server():
    environment = services()["proxy"]["environment"]
    defaults = {variable.name: variable.default for variable in VARIABLES}
    for name in ("DEADLINE", "MAX_PIXELS"):
        assert environment[name] == f"${{{name}:-{defaults[name]}}}"


def test_nginx_is_given_what_its_template_asks_for_and_no_more():
    template = (PROJECT / "deploy" / "nginx.conf.template").read_text()
    asked = set(re.findall(r"\$\{(\w+)\}", template))
    proxy = services()["proxy"]
    names = re.fullmatch(r"\^\((.*)\)\$\$", proxy["environment"]["NGINX_ENVSUBST_FILTER"])[1]
    assert set(names.split("|")) == asked <= set(proxy["environment"])
    # The template's place and name decide what file the image's start script makes of it.
    (volume,) = proxy["volumes"]
    here, there, _ = volume.split(":")
    folder = proxy["environment"]["NGINX_ENVSUBST_OUTPUT_DIR"]
    made = there.replace("/etc/nginx/templates", folder).removesuffix(".template")
    assert (PROJECT / here).read_text() == template
    assert proxy["command"] == ["nginx", "-c", made, "-g", "daemon off;"]
    assert any(place.startswith(f"{folder}:") for place in proxy["tmpfs"])


def test_server_has_no_way_in_but_nginx_and_no_way_out():
    app = services()["app"]
    assert "ports" not in app
    assert app["networks"] == ["inside"]
    assert "inside: {internal: true}" in TEXT
    assert app["environment"]["FORWARDED_ALLOW_IPS"] == "*"


def test_server_may_end_in_its_own_time():
    seconds = int(services()["app"]["stop_grace_period"].removesuffix("s"))
    most = int(re.search(r"Where DRAIN and DEADLINE together are above (\d+)", TEXT)[1])
    assert seconds > most + 1
    assert most > sum(int(v.default) for v in VARIABLES if v.name in ("DEADLINE", "DRAIN"))


def test_both_are_locked_in():
    for service in services().values():
        assert service["read_only"] is True
        assert service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service["user"].startswith("0")


def test_what_can_be_set_is_explained():
    offered = set(re.findall(r"\$\{(\w+):-", TEXT))
    table = (PROJECT / "docs" / "operations.md").read_text()
    comments = "\n".join(line for line in TEXT.splitlines() if line.startswith("#"))
    assert {name for name in offered if f"`{name}`" not in table} <= set(
        re.findall(r"\b[A-Z_]{4,}\b", comments)
    )
