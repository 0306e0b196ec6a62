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
from intaglio.timestamping import metrics as timestamping_metrics
from intaglio.validation.sources import metrics as sources_metrics

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
      - series: 'intaglio_certificate_expiry_timestamp_seconds{kind="ocsp-signer",name="legacy"}'
        values: '1296000x40'
      - series: 'intaglio_certificate_expiry_timestamp_seconds{kind="timestamp-issuer",name="stamps"}'
        values: '1209000x40'
      - series: 'intaglio_certificate_expiry_timestamp_seconds{kind="automatic-ocsp-signer",name="own"}'
        values: '864000x40'
      - series: 'intaglio_status_source_up{authority="legacy"}'
        values: '1x3 0x40'
      - series: 'CRLExpirationWarning{authority="legacy"}'
        values: '0x3 1x40'
      - series: 'intaglio_token_up{token="main"}'
        values: '1x3 0x5 _x40'
    alert_rule_test:
      - eval_time: 10m
        alertname: IntaglioSignerEnds
        exp_alerts:
          - exp_labels: {severity: warning, kind: timestamp-issuer, name: stamps}
            exp_annotations:
              summary: The timestamp-issuer certificate of stamps ends within 14 days
              description: 'Begin its renewal: intaglio ocsp signer renew, intaglio tsa issuer csr --new-key'
      - eval_time: 3m
        alertname: IntaglioStatusSourceStale
        exp_alerts: []
      - eval_time: 10m
        alertname: IntaglioStatusSourceStale
        exp_alerts:
          - exp_labels: {severity: critical, authority: legacy}
            exp_annotations:
              summary: 'The status of certificates of legacy is not known: tryLater is answered'
              description: 'See: intaglio ocsp source show legacy'
      - eval_time: 10m
        alertname: IntaglioCrlEnds
        exp_alerts:
          - exp_labels: {severity: warning, authority: legacy}
            exp_annotations: {summary: 'The CRL of legacy ends soon, and there is no newer one'}
      - eval_time: 7m
        alertname: IntaglioTokenDown
        exp_alerts:
          - exp_labels: {severity: critical, token: main}
            exp_annotations: {summary: The token main does not work}
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
    assert timestamping_metrics
    assert sources_metrics
    assert events
    assert alert_upkeep
    known = {each.name for each in REGISTRY.collect()}
    asked = {each.removesuffix("_total") for each in re.findall(r"intaglio_[a-z_]+|CRL[A-Za-z]+Warning", RULES)}
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
