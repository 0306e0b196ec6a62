"""How verification is switched off, one row per way: where, how it is written, what to do instead.

Python is judged by its syntax tree (``python_code``), Kubernetes objects by their structure (``kubernetes``),
everything else by regular expressions with bounded repetition, so that no input makes them slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from intaglio.mtls.posture.scanners.findings import Rule, Severity

_TRUST = "Trust the CA that issued the certificate (a CA file or trust store), or pin the certificate."
_VERIFY_CLIENTS = "Require and verify client certificates against the trust bundle of the environment."


@dataclass(frozen=True)
class Pattern:
    """One way to switch verification off: its rule, file name endings (or whole names), and how it is written.

    Where ``hints`` are given, one of them, in small letters, occurs in every text that matches; looking for it first is
    many times faster.
    """

    rule: Rule
    files: tuple[str, ...]
    expression: re.Pattern[str]
    hints: tuple[str, ...] = ()


def _row(rule: Rule, files: str, *expressions: str, flags: int = 0, hints: str = "") -> list[Pattern]:
    compiled = [re.compile(each, re.MULTILINE | flags) for each in expressions]
    return [Pattern(rule, tuple(files.split()), each, tuple(hints.split())) for each in compiled]


GO = Rule("verify-off-go", "Go code that accepts any server certificate", f"Remove InsecureSkipVerify. {_TRUST}")
PYTHON = Rule("verify-off-python", "Python code that accepts any server certificate", f"Remove it. {_TRUST}")
NODE = Rule("verify-off-node", "JavaScript that accepts any server certificate", f"Pass `ca` instead. {_TRUST}")
JAVA = Rule("verify-off-java", "Java code that accepts any certificate or host name", f"Use a trust store. {_TRUST}")
DOTNET = Rule("verify-off-dotnet", ".NET code that accepts any certificate", f"Remove the callback. {_TRUST}")
RUBY = Rule("verify-off-ruby", "Ruby code that accepts any server certificate", f"Use VERIFY_PEER. {_TRUST}")
PHP = Rule("verify-off-php", "PHP code that accepts any server certificate", f"Set CURLOPT_CAINFO. {_TRUST}")
NATIVE = Rule("verify-off-native", "C, C++, Rust, Swift or Perl code that accepts any certificate", _TRUST)
CURL = Rule("verify-off-curl", "curl or wget without verification", f"Use --cacert. {_TRUST}")
GIT = Rule("verify-off-git", "git without verification", f"Set http.sslCAInfo. {_TRUST}")
TOOL = Rule("verify-off-tool", "A command that connects without verification", f"Give it the CA certificate. {_TRUST}")
NGINX = Rule("verify-off-nginx", "nginx does not verify the other side", _VERIFY_CLIENTS)
APACHE = Rule("verify-off-apache", "Apache does not verify the other side", _VERIFY_CLIENTS)
HAPROXY = Rule("verify-off-haproxy", "HAProxy does not verify the other side", "Use `verify required ca-file ...`.")
ENVOY = Rule("verify-off-envoy", "Envoy accepts untrusted certificates", "Use VERIFY_TRUST_CHAIN.")
ISTIO = Rule("verify-off-istio", "Istio allows unverified connections", "Use mode STRICT or ISTIO_MUTUAL.")
ALB = Rule("verify-off-alb", "The load balancer passes unverified or expired client certificates", "Use mode verify.")
SETTING = Rule("verify-off-setting", "A setting that switches verification off", f"Remove it. {_TRUST}", Severity.ERROR)

_SCRIPTS = (
    ".sh .bash .zsh .ksh .envrc Makefile .mk Dockerfile Containerfile .dockerfile .yml .yaml .ps1 .bat .cmd "
    "Jenkinsfile .service"
)
_SETTINGS = ".yml .yaml .json .toml .ini .cfg .conf .properties .env .tf .tfvars .hcl .xml"
_JAVA = ".java .kt .kts .scala .groovy"
_CALLBACK = r"\bServer(?:CertificateCustom|Certificate)ValidationCallback\s*\+?=\s*"
_CURL_LETTERS = "[fgsSLvijINO#0123467aGJlnpqRZ]{0,8}"

PATTERNS: tuple[Pattern, ...] = (
    *_row(GO, ".go", r"\bInsecureSkipVerify\s*[:=]\s*true\b"),
    *_row(
        NODE, ".js .mjs .cjs .ts .mts .cts .jsx .tsx .vue .json",
        r"\brejectUnauthorized[\"']?\s*[:=]\s*(?:false|0|!1)\b", r"\bstrictSSL[\"']?\s*:\s*false\b",
        r"\bcheckServerIdentity[\"']?\s*:\s*\(?\w{0,20}\)?\s*=>\s*(?:undefined|null|true|\{\s*\})",
        hints="rejectunauthorized strictssl checkserveridentity",
    ),
    *_row(
        NODE, f".js .mjs .cjs .ts .mts .env .envrc {_SCRIPTS} {_SETTINGS}",
        r"\bNODE_TLS_REJECT_UNAUTHORIZED\b[\"'\]]{0,3}\s*[:=]?\s*[\"']?0\b",
        hints="node_tls_reject_unauthorized",
    ),
    *_row(NODE, ".npmrc .yarnrc .yarnrc.yml", r"^[ \t]*(?:strict-ssl|enableStrictSsl)\b\"?\s*[:= ]\s*\"?false\b"),
    *_row(
        JAVA, _JAVA,
        r"\b(?:NoopHostnameVerifier|ALLOW_ALL_HOSTNAME_VERIFIER|TrustAllStrategy|InsecureTrustManagerFactory)\b",
        r"\bcheckServerTrusted\s*\([^)]{0,200}\)\s*(?:throws\s+[\w.,\s]{1,100})?\{\s*(?://[^\n]{0,200}\s*)?\}",
        r"\bsetHostnameVerifier\s*\(\s*\(?\s*\w{1,30}\s*,\s*\w{1,30}\s*\)?\s*->\s*true",
        r"\bverify\s*\(\s*(?:final\s+)?String\s+\w{1,30}\s*,\s*(?:final\s+)?SSLSession\s+\w{1,30}\s*\)\s*"
        r"\{\s*return\s+true\s*;",
    ),
    *_row(
        DOTNET, ".cs .vb .fs .cshtml",
        _CALLBACK + r"\(?[\w\s,]{0,100}\)?\s*=>\s*\{?\s*(?:return\s+)?true\b",
        _CALLBACK + r"delegate\s*(?:\([^)]{0,150}\))?\s*\{\s*return\s+true\b",
        r"\bDangerousAcceptAnyServerCertificateValidator\b",
    ),
    *_row(TOOL, ".ps1 .psm1 .yml .yaml", r"\s-SkipCertificateCheck\b"),
    *_row(
        RUBY, ".rb .rake .gemspec Gemfile Rakefile .erb",
        r"\bVERIFY_NONE\b", r"\b(?:verify_ssl|ssl_verify|ssl_verify_mode)\s*(?:=>|:|=)\s*(?:false|:none|:verify_none)",
    ),
    *_row(
        PHP, ".php .inc .phtml",
        r"\bCURLOPT_SSL_VERIFY(?:PEER|HOST|STATUS)\b[\"']?\s*(?:,|=>)\s*(?:0|false)\b",
        r"[\"']verify(?:_peer|_peer_name|_host)?[\"']\s*=>\s*(?:false|0)\b",
        r"[\"']allow_self_signed[\"']\s*=>\s*true\b", flags=re.IGNORECASE,
    ),
    *_row(
        NATIVE, ".c .h .cc .cpp .cxx .hpp .m .mm .swift .rs .pl .pm .lua",
        r"\bSSL(?:_CTX)?_set_verify\s*\([^,]{1,100},\s*SSL_VERIFY_NONE\b",
        r"\bCURLOPT_SSL_VERIFY(?:PEER|HOST)\s*,\s*(?:0L?|false)\b",
        r"\bdanger_accept_invalid_(?:certs|hostnames)\s*\(\s*true\b", r"\bSslVerifyMode::NONE\b",
        r"\b(?:SSL_verify_mode|verify_hostname)\s*=>\s*(?:0|SSL_VERIFY_NONE)\b",
        r"\bMBEDTLS_SSL_VERIFY_NONE\b",
    ),
    *_row(
        CURL, f"{_SCRIPTS} .curlrc .wgetrc",
        rf"\bcurl\b[^\n|;&]{{0,300}}?\s(?:-{_CURL_LETTERS}k[a-zA-Z#]{{0,8}}|--insecure|--proxy-insecure)(?=[\s\"'\\]|$)",
        r"\bwget\b[^\n|;&]{0,300}?\s--no-check-certificate\b", r"^[ \t]*check[-_]certificate\s*=\s*(?:off|no|0)\b",
    ),
    *_row(CURL, ".curlrc", r"^[ \t]*(?:insecure|-k)\s*$"),
    *_row(
        GIT, f".gitconfig .gitmodules config {_SCRIPTS} .env",
        r"(?i)\b(?:http\.)?sslVerify\s*[= ]\s*[\"']?(?:false|no|0|off)\b",
        r"\bGIT_SSL_NO_VERIFY\b[\"']?\s*[:=]\s*[\"']?(?:1|true)\b",
    ),
    *_row(
        TOOL, _SCRIPTS,
        r"\s--insecure-skip-tls-verify(?:=true)?(?=[\s\"'\\]|$)", r"\s--tls-verify=false\b", r"\s--no-verify-ssl\b",
        r"\s--skip-(?:tls|ssl)-verif\w{1,8}\b", r"\bPYTHONHTTPSVERIFY\s*[=:]\s*[\"']?0\b",
        r"\bpip3?\b[^\n|;&]{0,200}\s--trusted-host\b",
    ),
    *_row(
        NGINX, ".conf nginx .nginx .tmpl .template .j2",
        r"^[ \t]*ssl_verify_client\s+(?:off|optional_no_ca)\s*;", r"^[ \t]*(?:proxy|grpc|uwsgi)_ssl_verify\s+off\s*;",
    ),
    *_row(
        NGINX, ".yml .yaml",
        r"nginx\.ingress\.kubernetes\.io/auth-tls-verify-client[\"']?\s*:\s*[\"']?(?:off|optional_no_ca)\b",
        r"nginx\.ingress\.kubernetes\.io/proxy-ssl-verify[\"']?\s*:\s*[\"']?off\b",
    ),
    *_row(
        APACHE, ".conf .htaccess .vhost .tmpl .j2",
        r"(?i)^[ \t]*SSLVerifyClient\s+(?:none|optional_no_ca)\b", r"(?i)^[ \t]*SSLProxyVerify\s+(?:none|optional)",
        r"(?i)^[ \t]*SSLProxyCheckPeer(?:Name|CN|Expire)\s+off\b",
    ),
    *_row(
        HAPROXY, ".cfg .haproxy haproxy.conf", r"^[ \t]*(?:bind|server|default-server)\b[^\n#]{0,400}\bverify\s+none\b",
        r"^[ \t]*ssl-server-verify\s+none\b", r"^[ \t]*bind\b[^\n#]{0,400}\b(?:crt|ca)-ignore-err\s+all\b",
    ),
    *_row(ENVOY, ".yml .yaml .json", r"\btrust_?[cC]hain_?[vV]erification[\"']?\s*:\s*[\"']?ACCEPT_UNTRUSTED\b",
          hints="accept_untrusted"),
    *_row(
        ALB, ".tf .json .yml .yaml .sh .hcl",
        r"\bignore_?client_?certificate_?expiry[\"']?\s*[:=]\s*[\"']?true\b",
        r"\bmutual[-_]?authentication\b[^}]{0,300}?\bmode[\"']?\s*[:=]\s*[\"']?passthrough\b",
        flags=re.IGNORECASE, hints="certificateexpiry certificate_expiry passthrough",
    ),
    *_row(
        SETTING, _SETTINGS,
        r"^[ \t\-{,]{0,80}[\"']?(?:[\w.-]{0,60}[_.-])?(?:tls_?insecure|insecure_?skip_?(?:tls_?)?verify"
        r"|skip_?(?:tls_?|ssl_?)?verify|skip_?(?:tls|ssl)_?verification|(?:tls|ssl)_?skip_?verify|tls_insecure_skip_verify|insecure_?tls|allow_?insecure_?ssl)"
        r"[\"']?\s*[:=]\s*[\"']?(?:true|yes|on|1)\b",
        r"^[ \t\-{,]{0,80}[\"']?(?:[\w.-]{0,60}[_.-])?(?:verify_?(?:ssl|tls|certs?|certificates?|peer)"
        r"|(?:ssl|tls)_?verif(?:y|ication)"
        r"|validate_?certs?)[\"']?\s*[:=]\s*[\"']?(?:false|no|off|0|none)\b",
        r"^[ \t\-{,]{0,80}[\"']?insecure[\"']?\s*[:=]\s*[\"']?true\b", flags=re.IGNORECASE,
        hints="insecure skip verif validate",
    ),
    *_row(SETTING, "Caddyfile .caddy", r"^[ \t]*tls_insecure_skip_verify\b", r"^[ \t]*mode\s+(?:request|require)\s*$"),
    *_row(SETTING, "ldap.conf .ldaprc .conf", r"(?i)^[ \t]*TLS_REQCERT\s+(?:never|allow|try)\b"),
    *_row(SETTING, "stunnel.conf .stunnel", r"(?i)^[ \t]*verify(?:(?:Chain|Peer)\s*=\s*no|\s*=\s*0)\b"),
)  # fmt: skip

#: Every rule of the code scanner.
RULES = (
    GO, PYTHON, NODE, JAVA, DOTNET, RUBY, PHP, NATIVE, CURL, GIT, TOOL, NGINX, APACHE, HAPROXY, ENVOY, ISTIO, ALB,
    SETTING,
)  # fmt: skip
