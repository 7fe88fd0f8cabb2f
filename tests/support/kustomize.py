"""As much of `kubectl kustomize` as deploy/kubernetes uses, so that its tests need no such tool.

Known are resources, components, patches by path (strategic merge) and namespace; anything else is
an error, and test_kubernetes.py compares with the real one where there is one.
"""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "patches"}
BY_NAME = {"containers", "env", "volumes", "ports"}  # lists that are merged, by their items' name
CLUSTER_WIDE = {"Namespace"}


def build(folder: Path, before: list[dict] | None = None) -> list[dict]:
    """Return the manifests of `folder`; a component's are those `before` it as well."""
    (settings,) = load(folder / "kustomization.yaml")
    assert set(settings) <= KNOWN, f"{folder}: {set(settings) - KNOWN}"
    found = list(before or [])
    for name in settings.get("resources", []):
        path = folder / name
        found += build(path) if path.is_dir() else load(path)
    for name in settings.get("components", []):
        found = build(folder / name, found)
    for patch in settings.get("patches", []):
        assert set(patch) == {"path"}
        for change in load(folder / patch["path"]):
            (target,) = [manifest for manifest in found if identity(manifest) == identity(change)]
            found[found.index(target)] = merged(target, change)
    if namespace := settings.get("namespace"):
        for manifest in found:
            if manifest["kind"] not in CLUSTER_WIDE:
                manifest["metadata"]["namespace"] = namespace
    return found


def load(path: Path) -> list[dict]:
    # Anchors would make parts of the manifests one object.
    return copy.deepcopy(list(yaml.safe_load_all(path.read_text())))


def identity(manifest: dict) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def merged(old: dict, new: dict) -> dict:
    result = dict(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            result[key] = merged(old[key], value)
        elif key in BY_NAME and isinstance(old.get(key), list):
            items = {item["name"]: item for item in old[key]}
            for item in value:
                items[item["name"]] = merged(items.get(item["name"], {}), item)
            result[key] = list(items.values())
        else:
            result[key] = value
    return result
