"""The alerting rules that come with the product are rules, and ask for metrics that there are."""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path

from prometheus_client.registry import REGISTRY
from tests.support.programs import attempt, run

from intaglio.mtls.observation import alert_upkeep, events
from intaglio.mtls.posture.values import REQUIRED_ALERTS
from intaglio.server import metrics

RULES = resources.files("intaglio.mtls.observation").joinpath("prometheus-rules.yaml").read_text()
_TEST = """\
rule_files: [rules.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'intaglio_access_decisions_total{decision="deny",reason="revoked"}'
        values: '0x5 3x30'
      - series: 'intaglio_alerts_open{kind="unknown-ca",severity="warning"}'
        values: '0x5 1x30'
      - series: 'intaglio_component_up{component="database"}'
        values: '1x40'
    alert_rule_test:
      - eval_time: 4m
        alertname: IntaglioRevokedCertificate
        exp_alerts: []
      - eval_time: 10m
        alertname: IntaglioRevokedCertificate
        exp_alerts:
          - exp_labels: {severity: critical}
            exp_annotations: {summary: A revoked certificate is presented}
      - eval_time: 10m
        alertname: IntaglioAlertOpen
        exp_alerts:
          - exp_labels: {severity: warning, kind: unknown-ca}
            exp_annotations:
              summary: 1 open alerts of the kind unknown-ca
              description: 'See: intaglio mtls alert list --org ORGANIZATION --filter state=open'
      - eval_time: 10m
        alertname: IntaglioAbsent
        exp_alerts: []
"""


def test_command_prints_rules_that_prometheus_takes_and_that_fire(tmp_path: Path) -> None:
    shown = run(sys.executable, "-m", "intaglio.cli", "mtls", "alert", "prometheus-rules")
    assert shown == RULES
    (tmp_path / "rules.yaml").write_text(shown)
    (tmp_path / "test.yaml").write_text(_TEST)
    assert "SUCCESS" in run("promtool", "check", "rules", "rules.yaml", cwd=tmp_path)
    tested = attempt("promtool", "test", "rules", "test.yaml", cwd=tmp_path)
    assert tested.status == 0, tested.output


def test_rules_ask_for_metrics_that_there_are() -> None:
    assert metrics
    assert events
    assert alert_upkeep
    known = {each.name for each in REGISTRY.collect()}
    asked = {each.removesuffix("_total") for each in re.findall(r"intaglio_[a-z_]+", RULES)}
    assert asked <= known


def test_every_required_kind_of_alert_has_a_rule() -> None:
    names = re.findall(r"alert: (\w+)", RULES)
    for kind, rule in {
        "no-certificate": "IntaglioNoCertificate",
        "expired-attempt": "IntaglioExpiredCertificate",
        "unknown-ca": "IntaglioUnknownCa",
        "unusual-volume": "IntaglioUnusualVolume",
    }.items():
        assert kind in REQUIRED_ALERTS
        assert rule in names
