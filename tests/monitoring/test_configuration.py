"""The files that Prometheus and Grafana read: sound, complete, and of one mind."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import dashboards
from tests.monitoring.prometheus import MONITORING, RULES, promtool

HERE = Path(__file__).parent


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    done = promtool("check", "config", MONITORING / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    done = promtool("check", "rules", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cases_of_the_rules_hold() -> None:
    done = promtool("test", "rules", *sorted(HERE.glob("*.test.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    cases = [case for file in HERE.glob("*.test.yml") for case in yaml.safe_load(file.read_text())["tests"]]
    fires: dict[str, set[bool]] = {}
    for test in (test for case in cases for test in case["alert_rule_test"]):
        fires.setdefault(test["alertname"], set()).add("exp_alerts" in test)
    assert {name for name, seen in fires.items() if seen == {True, False}} == set(ALERTS)


def test_every_alert_tells_whom_it_calls_and_what_is_the_matter() -> None:
    for alert in ALERTS.values():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]


def test_the_guide_tells_of_every_alert_what_to_do() -> None:
    rows = re.findall(r"^\| `(Caption\w+)` \| \w+ \| .+ \| .+ \|$", (MONITORING / "README.md").read_text(), re.M)
    assert rows == list(ALERTS)


@pytest.mark.parametrize("name", dashboards.names())
def test_a_dashboard_has_panels_of_its_own_that_do_not_overlap_and_ask_the_provisioned_source(name: str) -> None:
    source = yaml.safe_load(dashboards.provisioned("datasources").read_text())["datasources"][0]["uid"]
    panels = dashboards.load(name)["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {source}


def test_the_dashboards_have_names_of_their_own() -> None:
    assert dashboards.names() == ["service", "training"]
    assert len({dashboards.load(name)["uid"] for name in dashboards.names()}) == 2


def test_every_recorded_series_is_used() -> None:
    asked = "\n".join(query for name in dashboards.names() for query in dashboards.queries(name).values())
    asked += "\n".join(alert["expr"] for alert in ALERTS.values())
    assert [rule["record"] for rule in rules() if rule.get("record", "up") not in f"{asked} up"] == []
