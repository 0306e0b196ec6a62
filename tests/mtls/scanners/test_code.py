"""Every way to switch verification off is found, the right way is not, and our own code is clean."""

# ruff: noqa: E501 - a table of samples is read by rows
from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import intaglio
from intaglio.core import clock
from intaglio.mtls.posture.scanners import report
from intaglio.mtls.posture.scanners.code import judge, scan_code
from intaglio.mtls.posture.scanners.findings import Limits
from intaglio.mtls.posture.scanners.patterns import PATTERNS, RULES
from intaglio.mtls.posture.scanners.trees import Blob

#: (file, rule, a line that switches verification off, a line that does not).
SAMPLES = [
    ("a.go", "verify-off-go", "cfg := &tls.Config{InsecureSkipVerify: true}", "cfg := &tls.Config{InsecureSkipVerify: false}"),
    ("b.go", "verify-off-go", "tlsConfig.InsecureSkipVerify = true", "// never set InsecureSkipVerify: true"),
    ("a.py", "verify-off-python", "requests.get(url, verify=False)", "requests.get(url, verify='/etc/ca.pem')"),
    ("b.py", "verify-off-python", "httpx.AsyncClient(verify=False)", "jwt.decode(token, verify=False)"),
    ("c.py", "verify-off-python", "context.verify_mode = ssl.CERT_NONE", "assert context.verify_mode != ssl.CERT_NONE"),
    ("d.py", "verify-off-python", "context.check_hostname = False", "# context.check_hostname = False"),
    ("e.py", "verify-off-python", "ssl._create_unverified_context()", "x = 'ssl._create_unverified_context()'"),
    ("f.py", "verify-off-python", "urllib3.PoolManager(cert_reqs='CERT_NONE')", "urllib3.PoolManager(cert_reqs='CERT_REQUIRED')"),
    ("g.py", "verify-off-python", "ssl._create_default_https_context = ssl._create_unverified_context", "y = ssl.create_default_context"),
    ("a.js", "verify-off-node", "https.get({ rejectUnauthorized: false })", "https.get({ rejectUnauthorized: true })"),
    ("b.ts", "verify-off-node", "process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'", "process.env.NODE_EXTRA_CA_CERTS = 'ca.pem'"),
    ("prod.env", "verify-off-node", "NODE_TLS_REJECT_UNAUTHORIZED=0", "NODE_TLS_REJECT_UNAUTHORIZED=1"),
    (".npmrc", "verify-off-node", "strict-ssl=false", "strict-ssl=true"),
    ("A.java", "verify-off-java", "builder.setSSLHostnameVerifier(NoopHostnameVerifier.INSTANCE);", "builder.build();"),
    ("B.java", "verify-off-java", "public void checkServerTrusted(X509Certificate[] c, String t) { }", "tm.checkServerTrusted(c, t);"),
    ("C.java", "verify-off-java", "c.setHostnameVerifier((host, session) -> true);", "c.setHostnameVerifier(strict);"),
    ("A.cs", "verify-off-dotnet", "handler.ServerCertificateCustomValidationCallback = (a, b, c, d) => true;", "handler.ServerCertificateCustomValidationCallback = Check;"),
    ("B.cs", "verify-off-dotnet", "HttpClientHandler.DangerousAcceptAnyServerCertificateValidator", "new HttpClientHandler()"),
    ("a.rb", "verify-off-ruby", "http.verify_mode = OpenSSL::SSL::VERIFY_NONE", "http.verify_mode = OpenSSL::SSL::VERIFY_PEER"),
    ("a.php", "verify-off-php", "curl_setopt($ch, CURLOPT_SSL_VERIFYPEER, 0);", "curl_setopt($ch, CURLOPT_SSL_VERIFYPEER, true);"),
    ("b.php", "verify-off-php", "new Client(['verify' => false]);", "new Client(['verify' => '/etc/ca.pem']);"),
    ("a.rs", "verify-off-native", "builder.danger_accept_invalid_certs(true)", "builder.danger_accept_invalid_certs(false)"),
    ("a.c", "verify-off-native", "SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);", "SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);"),
    ("a.sh", "verify-off-curl", "curl -k https://pay.internal/", "curl --cacert ca.pem https://pay.internal/k"),
    ("b.sh", "verify-off-curl", "curl -fsSLk https://pay.internal/", "curl -fsSL https://pay.internal/-k"),
    ("c.sh", "verify-off-curl", "wget -q --no-check-certificate https://pay.internal/", "wget -q https://pay.internal/"),
    ("Dockerfile", "verify-off-curl", "RUN curl --insecure https://pay.internal/ | tar x", "# RUN curl --insecure https://x/"),
    ("d.sh", "verify-off-git", "git config --global http.sslVerify false", "git config --global http.sslVerify true"),
    ("e.sh", "verify-off-git", "export GIT_SSL_NO_VERIFY=true", "unset GIT_SSL_NO_VERIFY"),
    ("f.sh", "verify-off-tool", "kubectl --insecure-skip-tls-verify get pods", "kubectl get pods"),
    ("nginx.conf", "verify-off-nginx", "ssl_verify_client optional_no_ca;", "ssl_verify_client on;"),
    ("site.conf", "verify-off-nginx", "  proxy_ssl_verify off;", "  proxy_ssl_verify on;"),
    ("httpd.conf", "verify-off-apache", "SSLVerifyClient none", "SSLVerifyClient require"),
    ("haproxy.cfg", "verify-off-haproxy", "  server a 10.0.0.1:443 ssl verify none", "  server a 10.0.0.1:443 ssl verify required ca-file ca.pem"),
    ("envoy.yaml", "verify-off-envoy", "trust_chain_verification: ACCEPT_UNTRUSTED", "trust_chain_verification: VERIFY_TRUST_CHAIN"),
    ("alb.tf", "verify-off-alb", "mutual_authentication {\n  mode = \"passthrough\"\n}", "tracing_config {\n  mode = \"PassThrough\"\n}"),
    ("alb.sh", "verify-off-alb", "aws elbv2 modify-listener --mutual-authentication Mode=passthrough", "aws elbv2 modify-listener --mutual-authentication Mode=verify"),
    ("alb.json", "verify-off-alb", "\"IgnoreClientCertificateExpiry\": true", "\"IgnoreClientCertificateExpiry\": false"),
    ("app.yaml", "verify-off-setting", "  insecure: true", "  insecure: false"),
    ("vector.toml", "verify-off-setting", "tls.verify_certificate = false", "tls.verify_certificate = true"),
    ("otel.yaml", "verify-off-setting", "    insecure_skip_verify: true", "    # insecure_skip_verify: true"),
    ("play.yml", "verify-off-setting", "    validate_certs: no", "    validate_certs: yes"),
    ("logs.conf", "verify-off-setting", "tls_insecure = on", "tls_secure = on"),
]  # fmt: skip

_PEER_AUTHENTICATION = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec:
  mtls: {{mode: {mode}}}
"""


def _found(name: str, content: str) -> list[str]:
    return [each.rule.id for each in judge(Blob(name, content.encode())) if each.waived is None]


@pytest.mark.parametrize(("name", "rule", "bad", "good"), SAMPLES)
def test_the_bad_line_is_found_and_the_good_one_is_not(name: str, rule: str, bad: str, good: str) -> None:
    assert _found(name, f"\n{bad}\n") == [rule]
    assert _found(name, f"\n{good}\n") == []


def test_every_rule_has_a_sample() -> None:
    istio = {"verify-off-istio"}
    assert {rule for _, rule, _, _ in SAMPLES} | istio == {rule.id for rule in RULES}


@pytest.mark.parametrize(("mode", "found"), [("PERMISSIVE", True), ("DISABLE", True), ("STRICT", False)])
def test_istio_modes_are_judged_by_structure(mode: str, found: bool) -> None:
    assert _found("mesh.yaml", _PEER_AUTHENTICATION.format(mode=mode)) == ["verify-off-istio"] * found
    assert _found("other.yaml", f"kind: Wiki\nspec: {{mtls: {{mode: {mode}}}}}\n") == []


def test_an_exception_needs_a_reason_and_ends() -> None:
    line = "requests.get(url, verify=False)  # scan: allow verify-off-python{} because a test of refusals\n"
    assert _found("a.py", line.format("")) == []
    assert _found("a.py", "requests.get(u, verify=False)  # scan: allow verify-off-python\n") == ["verify-off-python"]
    assert _found("a.py", line.format("").replace("python because", "go because")) == ["verify-off-python"]
    with clock.frozen(datetime(2027, 2, 1, tzinfo=UTC)):
        assert _found("a.py", line.format(" until 2027-01-31")) == ["verify-off-python"]
        assert _found("a.py", line.format(" until 2027-03-31")) == []


def test_the_line_and_column_are_those_an_editor_shows(tmp_path: Path) -> None:
    (tmp_path / "a.go").write_text("package a\n\nvar c = tls.Config{InsecureSkipVerify: true}\n")
    (found,) = scan_code(tmp_path).findings
    assert (found.place, found.line, found.column) == ("a.go", 3, 20)


def test_binaries_large_files_and_links_are_left_out_and_limits_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_bytes(b"curl -k https://x\n\x00")
    (tmp_path / "b.sh").write_text("curl -k https://x\n" + "#" * 5000)
    (tmp_path / "c.sh").symlink_to(tmp_path / "b.sh")
    found = scan_code(tmp_path, limits=Limits(octets=1000))
    assert found.findings == []
    assert [place for place, _ in found.skipped] == ["b.sh"]
    for name in "xyz":
        (tmp_path / f"{name}.sh").write_text("curl -k https://x\n")
    stopped = scan_code(tmp_path, limits=Limits(files=2))
    assert not stopped.complete


def test_a_report_in_sarif_has_what_the_standard_requires(tmp_path: Path) -> None:
    (tmp_path / "a b.sh").write_text(
        "curl -k https://x\ncurl -k https://y # scan: allow verify-off-curl because of the demo\n"
    )
    log = json.loads(json.dumps(report.as_sarif(scan_code(tmp_path), RULES)))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "intaglio"
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "verify-off-curl"
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "a%20b.sh"
        assert place["region"]["startLine"] >= 1
    assert [bool(result.get("suppressions")) for result in run["results"]] == [False, True]


def test_our_own_code_switches_no_verification_off() -> None:
    found = scan_code(Path(intaglio.__file__).parent)
    assert found.files > 300
    assert report.as_text(found).endswith(" 0 findings, 0 allowed.")


@given(st.text(max_size=300), st.sampled_from(["a.py", "a.yaml", "nginx.conf", "a.cs", "a.java", "a.sh", "a.json"]))
def test_no_text_breaks_the_scanner(text: str, name: str) -> None:
    list(judge(Blob(name, text.encode("utf-8", "replace"))))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.expression.pattern[:30])
def test_no_text_makes_a_pattern_slow(pattern: object) -> None:
    """200,000 characters of what each pattern begins with; a pattern that backtracks would not come back."""
    from intaglio.mtls.posture.scanners.patterns import Pattern

    assert isinstance(pattern, Pattern)
    for piece in (
        "a ", "\n", " ", "\t\n", "curl ", "curl -", "verify(", "  - ", "server a ", "a_", "a: ", "-", "{", "mode ",
        "checkServerTrusted(String a) throws a, ", "ServerCertificateValidationCallback = delegate (",
    ):  # fmt: skip
        before = clock.monotonic()
        pattern.expression.search(piece * (200_000 // len(piece)))
        assert clock.monotonic() - before < 10
