"""What is in deploy/: manifests are ones that Kubernetes takes, dashboards and alerts name metrics that there are."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fsd.config import find_problems
from fsd.daemon.metrics import exposition
from tests.vfs.world import new_store, opened

DEPLOY = Path(__file__).parents[1] / "deploy"
KUBERNETES_VERSION = "1.29"


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


@pytest.mark.parametrize("manifest", list(manifests()), ids=lambda manifest: manifest["kind"])
def test_a_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_the_schemas_find_mistakes() -> None:
    manifest = next(each for each in manifests() if each["kind"] == "DaemonSet")
    manifest["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_the_configuration_in_it_is_right(tmp_path: Path) -> None:
    manifest = next(each for each in manifests() if each["kind"] == "ConfigMap")
    path = tmp_path / "data.toml"
    path.write_text(manifest["data"]["data.toml"])
    assert find_problems(path, home=tmp_path) == []
    text = (DEPLOY / "kubernetes" / "daemonset.yaml").read_text()
    mountpoint = tomllib.loads(path.read_text())["mountpoint"]
    assert f"umount --stale {mountpoint}; mkdir -p {mountpoint}" in text


def test_the_example_for_the_service_is_right(tmp_path: Path) -> None:
    assert find_problems(DEPLOY.parent / "systemd" / "example.toml", home=tmp_path) == []


def expressions() -> list[str]:
    """What dashboards and alerts ask of Prometheus."""
    dashboard = json.loads((DEPLOY / "grafana" / "fsd.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "fsd-alerts.yml").read_text())["groups"]
    return asked + [rule["expr"] for rule in group["rules"]]


async def test_dashboards_and_alerts_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    async with opened(await new_store(), tmp_path) as world:
        await world.names(b"")
        text = exposition(world.vfs).decode()
    there_are = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    # The empty file system has no samples of these yet.
    there_are |= {"fsd_requests_total"}
    asked = {name for each in expressions() for name in re.findall(r"\b(?:fsd|process)_[a-z_]+\b", each)}
    assert len(asked) > 15
    assert asked <= there_are


def test_an_alert_says_what_to_do() -> None:
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "fsd-alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} <= set(rule["annotations"])
        assert rule["expr"].count("(") == rule["expr"].count(")")
    panels = json.loads((DEPLOY / "grafana" / "fsd.json").read_text())["panels"]
    assert all(panel["description"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
