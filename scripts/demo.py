"""The steps of scripts/demo: what a new installation does from `intaglio init` to a proven audit trail.

Every command is shown as it runs, and what it did is held against what it should have done.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib.installation import Installation, keep, temporary_folder
from lib.walkthrough import Step, Unexpected, Walkthrough

_START_ATTEMPTS = 3
_PORT_TAKEN = "in use by another program"
_PUBLICATION_SECONDS = 5.0
_CALL = "curl -sS --fail-with-body --cacert platform.pem --cert alice.pem -H Content-Type:application/json \\\n "
_EST = "curl -sS --fail --cacert platform.pem -H Content-Type:application/pkcs10 --data-binary @thermostat.csr"
_FROM_PKCS7 = "| base64 -d | openssl pkcs7 -inform DER -print_certs"
_CRL_NUMBER = "openssl crl -inform DER -in issuing.crl -noout -crlnumber"
_SERVER_LOG = "server.log"
_SERVICE_LOG = "service.log"
_PUBLICATION_LOG = "publication.log"
_OTHER_CA = """\
[ca]
default_ca = other
[other]
database = other.txt
new_certs_dir = published
certificate = other.pem
private_key = other.key
crlnumber = other.number
rand_serial = yes
default_md = sha256
default_days = 7
default_crl_days = 7
policy = any
[any]
commonName = supplied
[responder]
keyUsage = critical, digitalSignature
extendedKeyUsage = OCSPSigning
noCheck = ignored
"""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    with temporary_folder("intaglio-demo-") as folder:
        demo = Demo(folder)
        try:
            return demo.run(once=bool(os.environ.get("ONCE")))
        except KeyboardInterrupt:
            print("\nInterrupted.", flush=True)
            return 130
        except BrokenPipeError:
            # The reader went away (`| head`); what is still buffered must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        finally:
            demo.stop()


class Demo:
    """One demonstration in one folder: ``data`` holds the installation, beside it are the files of its users."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.installation = Installation(folder)
        self.walk = Walkthrough(folder, self.installation.environment())
        self.server: subprocess.Popen[bytes] | None = None
        self.service: subprocess.Popen[bytes] | None = None
        self.service_port = 0
        self.publication_port = 0

    def run(self, *, once: bool) -> int:
        """Walk through; then, unless ``once`` or something failed, stay up until Ctrl-C. Returns the exit status."""
        self.walk.say(f"A public key infrastructure in {self.folder}, with the commands that make it")
        self.walk.walk(self._chapters())
        if once or self.walk.failed:
            self.walk.say("")
        else:
            self._stay()
        self.stop()
        if self.walk.failed:
            keep(self.folder)
            self.walk.say(f"What is left of it: {self.folder}\n")
        self.walk.say(f"demo: {self.walk.passed} steps passed, {self.walk.failed} failed")
        return 1 if self.walk.failed else 0

    def stop(self) -> None:
        """End everything that runs, whatever the terminal says meanwhile."""
        _ignore_signals()
        self.walk.stop_all()

    def _chapters(self) -> dict[str, list[Step]]:
        return {
            "Start a server": [
                Step("Master key, database and first administrator are made", self._init, essential=True),
                Step("The server is ready on 127.0.0.1", self._serve, essential=True),
            ],
            "Create certificate authorities": [
                Step("An organization holds CAs and their clients", self._create_organization, essential=True),
                Step("A root CA has its key and signed itself", self._create_root, essential=True),
                Step("An issuing CA is signed by the root", self._create_issuing, essential=True),
            ],
            "Issue certificates through the gateway": [
                Step("Alice, its administrator, has a client certificate", self._unpack, essential=True),
                Step("The gateway knows her", self._greet),
                Step("The gateway answers nobody without a client certificate", self._greet_nobody),
                Step("A TLS server has a certificate", self._issue_server, essential=True),
                Step("Bob has a client certificate", self._issue_client, essential=True),
            ],
            "Mutual TLS": [
                Step("The OCSP responder calls Bob's certificate good", self._ask_good),
                Step("A service admits only clients of this CA, and no revoked ones", self._start_service),
                Step("Bob is let in", self._visit),
                Step("Whoever has no certificate is not", self._visit_without),
            ],
            "Revoke": [
                Step("Alice revokes Bob's certificate, and a CRL is issued at once", self._revoke, essential=True),
                Step("The OCSP responder calls it revoked", self._ask_revoked),
                Step("The CRL names it", self._fetch_crl),
                Step("The service refuses Bob", self._visit_revoked),
            ],
            "Identity for people and services": [
                Step("A trust domain has CAs of its own, good for its names only", self._create_domain),
                Step("A service is registered: what its certificates say is decided here", self._register_service),
                Step("Carol has a code to make a certificate in her browser", self._make_code),
                Step("The page where she does that is there", self._look_at_page),
                Step("TLS lets anybody in, mutual TLS tells them apart", self._compare),
            ],
            "Enrolment by standard protocols": [
                Step("Devices may ask by EST", self._open_est),
                Step("A thermostat with a password has a certificate, made with curl alone", self._enroll_by_est),
                Step("It renews with the certificate itself", self._renew_by_est),
                Step("A base station with a shared secret has one, by OpenSSL's CMP client", self._enroll_by_cmp),
                Step("certbot and all others that speak ACME find their directory", self._open_acme),
            ],
            "Trust services": [
                Step("A timestamp issuer is certified by the issuing CA", self._create_timestamp_issuer),
                Step("A contract gets a timestamp that OpenSSL verifies", self._stamp),
                Step("A CA of another make publishes a CRL; the responder reads it", self._read_foreign_crl),
                Step("That CA certifies the key of our responder", self._sign_responder),
                Step("One address answers for its certificates too", self._ask_foreign),
            ],
            "Look back": [
                Step("The certificate is found, and revoked", self._search),
                Step("Its life is in the event feed", self._events),
                Step("The audit trail is complete and unaltered", self._verify_audit),
            ],
        }

    # -- a server ----------------------------------------------------------------------------------------------------

    def _init(self) -> None:
        self.walk.run("intaglio init | tee init.txt", expect="admin (created)")
        mode = (self.installation.data / "master.key").stat().st_mode & 0o777
        if mode != 0o600:
            raise Unexpected("only its owner may read data/master.key (mode 600)", f"mode {mode:o}")

    def _serve(self) -> str:
        for attempt in range(1, _START_ATTEMPTS + 1):
            for port, instead in self.installation.choose_ports().items():
                self.walk.say(f"   port {port} is taken: {instead} instead")
            self.server = self.walk.start("intaglio serve", _SERVER_LOG)
            try:
                self.walk.wait_until("the server gets ready", self.installation.is_ready, self.server, _SERVER_LOG)
                break
            except Unexpected as failure:
                # Somebody else may take a port between the look at it and the start of the server.
                if _PORT_TAKEN not in failure.seen or attempt == _START_ATTEMPTS:
                    raise
        self.walk.run(f"curl -sS {self.installation.url('health')}/readyz", expect='"status":"UP"')
        return ", ".join(f"{name} {port}" for name, port in self.installation.ports.items())

    # -- certificate authorities -------------------------------------------------------------------------------------

    def _create_organization(self) -> None:
        self.walk.run("intaglio org create demo", expect="Created organization demo")

    def _create_root(self) -> str:
        self.walk.run(
            'intaglio ca create root demo~root --subject "CN=Demo Root,O=Demo" --key P-256 \\\n'
            "  --profile privatessl-tls-server --administrator alice --save-passwords",
            expect="demo~root (ca-root, active)",
        )
        self.walk.run("intaglio ca certificate demo~root --out root.pem")
        self.walk.run("openssl verify -x509_strict -CAfile root.pem root.pem", expect="root.pem: OK")
        return self._end_of("root.pem")

    def _create_issuing(self) -> str:
        self.walk.run(
            'intaglio ca create issuing demo~issuing --issuer root --subject "CN=Demo Issuing,O=Demo" \\\n'
            "  --key P-256 --profile privatessl-tls-server --profile privatessl-tls-client --administrator alice",
            expect="demo~issuing (ca-issuing, active)",
        )
        url = self.installation.url("public")
        self.walk.run(f"curl -sS --fail --output issuing.pem {url}/aia/demo/issuing/ca.pem")
        self.walk.run("openssl verify -x509_strict -CAfile root.pem issuing.pem", expect="issuing.pem: OK")
        return self._end_of("issuing.pem")

    # -- issuing -----------------------------------------------------------------------------------------------------

    def _unpack(self) -> str:
        self.walk.run("openssl pkcs12 -in alice.p12 -passin file:alice.password -noenc -out alice.pem")
        return self.walk.ask("openssl x509 -in alice.pem -noout -subject -nameopt RFC2253").partition("=")[2]

    def _greet(self) -> None:
        self.walk.run("intaglio tls ca-certificate --out platform.pem  # the gateway's own certificate chains to it")
        self.walk.environment["CA"] = self._issuing_ca
        self.walk.show(f"CA={self._issuing_ca}")
        self.walk.run("curl -sS --cacert platform.pem --cert alice.pem $CA", expect='"id":"demo~issuing"')

    def _greet_nobody(self) -> str:
        output = self.walk.run(
            "curl -sS --cacert platform.pem -w '%{http_code}' $CA", expect="A TLS client certificate is required."
        )
        if not output.endswith("401"):
            raise Unexpected("HTTP status 401", output)
        return "401 Unauthorized"

    def _issue_server(self) -> str:
        self._enroll("server", "privatessl-tls-server", "-subj /CN=localhost -addext subjectAltName=DNS:localhost")
        self.walk.run(
            "openssl verify -x509_strict -purpose sslserver -verify_hostname localhost \\\n"
            "  -CAfile root.pem -untrusted issuing.pem server.pem",
            expect="server.pem: OK",
        )
        return self._end_of("server.pem")

    def _issue_client(self) -> str:
        self._enroll("bob", "privatessl-tls-client", "-subj /CN=bob")
        self.walk.run(
            "openssl verify -x509_strict -purpose sslclient -CAfile root.pem -untrusted issuing.pem bob.pem",
            expect="bob.pem: OK",
        )
        return self._end_of("bob.pem")

    def _enroll(self, name: str, profile: str, request: str) -> None:
        """Make a key and a CSR, have the gateway sign it, keep the certificate as NAME.pem."""
        self.walk.run(
            f"openssl req -new {request} \\\n"
            f"  -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {name}.key -outform DER -out {name}.csr"
        )
        csr = f"'$(base64 -w0 {name}.csr)'"
        self.walk.run(
            f"{_CALL} $CA/enrollments --output {name}.json --data \\\n"
            f'  \'{{"profileId":"{profile}","requiredFormat":{{"format":"PEM"}},"csr":"{csr}"}}\''
        )
        self.walk.run(
            f"python3 -c 'import json, sys; print(json.load(sys.stdin)[\"enrollment\"][\"body\"])' \\\n"
            f"  < {name}.json > {name}.pem"
        )

    # -- mutual TLS --------------------------------------------------------------------------------------------------

    def _ask_good(self) -> None:
        self._ask_responder("bob.pem: good")

    def _ask_responder(self, expected: str) -> str:
        url = self.walk.ask("openssl x509 -in bob.pem -noout -ocsp_uri")
        output = self.walk.run(
            f"openssl ocsp -url {url} \\\n  -issuer issuing.pem -cert bob.pem -CAfile root.pem",
            expect=expected,
            output_shown=True,
        )
        if "Response verify OK" not in output:
            raise Unexpected('"Response verify OK": the answer is signed on behalf of the issuer', output)
        return output

    def _start_service(self) -> str:
        self._get_crl()
        self.walk.run("cat root.pem issuing.pem > trusted.pem")
        self._open_service()
        return f"https://localhost:{self.service_port}"

    def _open_service(self) -> None:
        command = (
            f"openssl s_server -accept 127.0.0.1:{self.service_port} -www \\\n"
            "  -cert server.pem -key server.key -cert_chain issuing.pem \\\n"
            "  -Verify 2 -verify_return_error -CAfile trusted.pem -CRL issuing.crl -crl_check"
        )
        self.service = self.walk.start(command, _SERVICE_LOG)
        self.walk.wait_until("the service gets ready", self._service_listens, self.service, _SERVICE_LOG)

    def _service_listens(self) -> bool:
        log = (self.folder / _SERVICE_LOG).read_text(errors="replace")
        found = re.search(r"^ACCEPT(?: .*:(\d+))?$", log, re.MULTILINE)
        if found and found[1]:
            self.service_port = int(found[1])
        return bool(found)

    def _visit(self) -> None:
        command = f"{self._call_service()} --cert bob.pem --key bob.key | grep Subject:"
        self.walk.run(command, expect="CN=bob", output_shown=True)

    def _visit_without(self) -> str:
        self.walk.run(self._call_service(), status=None, expect="alert certificate required")
        return "alert certificate required"

    def _call_service(self) -> str:
        return f"curl -sS --cacert root.pem https://localhost:{self.service_port}"

    # -- revocation --------------------------------------------------------------------------------------------------

    def _revoke(self) -> None:
        self.walk.run(
            f"{_CALL} $CA/certificates/{self._serial()}/actions --data \\\n"
            '  \'{"action":{"type":"RevokeAction","reason":"keyCompromise","issueCrl":true}}\'',
            expect='"status":"COMPLETED"',
        )

    def _ask_revoked(self) -> None:
        output = self._ask_responder("bob.pem: revoked")
        if "Reason: keyCompromise" not in output:
            raise Unexpected("Reason: keyCompromise", output)

    def _fetch_crl(self) -> None:
        before = self.walk.ask(_CRL_NUMBER)
        self._get_crl()
        self._until_published(before)
        command = "openssl crl -inform DER -in issuing.crl -noout -text | grep -A 4 'Serial Number'"
        self.walk.run(command, expect=self._serial(), output_shown=True)

    def _until_published(self, before: str) -> None:
        """Fetch again while it is still the CRL from before: processes look for a new one once a second."""
        deadline = time.monotonic() + _PUBLICATION_SECONDS
        while self.walk.ask(_CRL_NUMBER) == before and time.monotonic() < deadline:
            time.sleep(0.1)
            self.walk.ask(f"curl -sS --fail --output issuing.crl {self._crl_url()}")

    def _get_crl(self) -> None:
        self.walk.run(f"curl -sS --fail --output issuing.crl {self._crl_url()}")
        self.walk.run("openssl crl -inform DER -in issuing.crl -noout -CAfile issuing.pem", expect="verify OK")

    def _crl_url(self) -> str:
        points = self.walk.ask("openssl x509 -in bob.pem -noout -ext crlDistributionPoints")
        found = re.search(r"URI:(\S+)", points)
        if found is None:
            raise Unexpected("a CRL distribution point in bob.pem", points)
        return found[1]

    def _visit_revoked(self) -> str:
        if self.service is not None:
            self.walk.stop(self.service)
        self._open_service()
        self.walk.run(
            f"{self._call_service()} --cert bob.pem --key bob.key", status=None, expect="alert certificate revoked"
        )
        return "alert certificate revoked"

    # -- identity ----------------------------------------------------------------------------------------------------

    def _create_domain(self) -> None:
        self.walk.run(
            "intaglio mtls domain create prod.demo.internal --environment prod --org demo --new-ca"
            " --email-domain demo.example",
            expect="Created trust domain",
        )

    def _register_service(self) -> str:
        self.walk.run(
            "intaglio mtls identity add service payments --domain prod.demo.internal --team finance \\\n"
            "  --service payments --version 1.0 --dns payments.prod.demo.internal"
        )
        shown = json.loads(self.walk.ask("intaglio --json mtls identity list --filter name=payments"))
        return str(shown[0]["uri"])

    def _make_code(self) -> None:
        self.walk.run(
            "intaglio mtls code create carol@demo.example --name Carol --domain prod.demo.internal | tee code.txt",
            expect="carol@demo.example",
        )

    def _look_at_page(self) -> str:
        page = f"{self.installation.url('console')}/enroll/"
        self.walk.run(f"curl -sS --fail --cacert platform.pem {page} | head -c 15", expect="<!doctype html>")
        return page

    def _compare(self) -> str:
        output = self.walk.run("intaglio mtls demo tls-vs-mtls")
        return f"{output.count(' yes')} outcomes as expected"

    # -- enrolment by standard protocols -----------------------------------------------------------------------------

    def _open_est(self) -> str:
        self.walk.run(
            "intaglio ca edit demo~issuing --add-profile est-digital-signature --add-profile cmp-digital-signature"
        )
        self.walk.run(
            "intaglio enroll endpoint create --protocol est --name things \\\n"
            "  --ca demo~issuing --profile est-digital-signature",
            expect="Created est/things",
        )
        self.walk.environment["EST"] = url = f"{self.installation.url('enroll')}/.well-known/est/things"
        return url

    def _enroll_by_est(self) -> str:
        self.walk.run("intaglio enroll credential create est/things --name thermostat --out thermostat.password")
        self.walk.run(
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout thermostat.key \\\n"
            "  -subj /CN=thermostat -outform DER | base64 > thermostat.csr"
        )
        self.walk.show("EST=" + self.walk.environment["EST"])
        login = "--user thermostat:$(cat thermostat.password)"
        self.walk.run(f"{_EST} \\\n  {login} $EST/simpleenroll {_FROM_PKCS7} > thermostat.pem")
        self.walk.run(
            "openssl verify -x509_strict -CAfile root.pem -untrusted issuing.pem thermostat.pem",
            expect="thermostat.pem: OK",
        )
        return self._end_of("thermostat.pem")

    def _renew_by_est(self) -> str:
        proof = "--cert thermostat.pem --key thermostat.key"
        self.walk.run(f"{_EST} \\\n  {proof} $EST/simplereenroll {_FROM_PKCS7} > renewed.pem")
        self.walk.run(
            "openssl verify -x509_strict -CAfile root.pem -untrusted issuing.pem renewed.pem", expect="renewed.pem: OK"
        )
        return self._end_of("renewed.pem")

    def _enroll_by_cmp(self) -> str:
        self.walk.run(
            "intaglio enroll endpoint create --protocol cmp --name stations \\\n"
            "  --ca demo~issuing --profile cmp-digital-signature",
            expect="Created cmp/stations",
        )
        self.walk.run("intaglio enroll credential create cmp/stations --kind mac --name station-1 --out station.secret")
        self.walk.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out station.key")
        self.walk.run(
            f"openssl cmp -cmd ir -server {self.installation.url('public')}/.well-known/cmp/p/stations \\\n"
            "  -ref station-1 -secret file:station.secret -newkey station.key -subject /CN=station-1 \\\n"
            "  -certout station.pem"
        )
        self.walk.run(
            "openssl verify -x509_strict -CAfile root.pem -untrusted issuing.pem station.pem", expect="station.pem: OK"
        )
        return self._end_of("station.pem")

    def _open_acme(self) -> str:
        self.walk.run(
            "intaglio enroll endpoint create --protocol acme --name web \\\n"
            "  --ca demo~issuing --profile privatessl-tls-server",
            expect="certbot certonly",
        )
        url = f"{self.installation.url('enroll')}/acme/main/demo~issuing/privatessl-tls-server/directory"
        self.walk.run(f"curl -sS --fail --cacert platform.pem {url}", expect='"newOrder"')
        return f"{self.installation.url('enroll')}/urls/main shows all of them"

    # -- trust services ----------------------------------------------------------------------------------------------

    def _create_timestamp_issuer(self) -> None:
        self.walk.run(
            "intaglio settings set timestamping.clock_source=none  # here nobody has to keep the clock right",
            expect="timestamping",
        )
        self.walk.run(
            "intaglio tsa issuer create contracts --policy 1.3.6.1.4.1.32473.1 --accuracy 1s --ca demo~issuing",
            expect="/tsa/contracts",
        )

    def _stamp(self) -> str:
        url = f"{self.installation.url('public')}/tsa/contracts"
        self.walk.run("echo 'I owe Bob a beer.' > contract.txt")
        self.walk.run("openssl ts -query -data contract.txt -sha256 -cert -out contract.tsq 2> openssl.log")
        self.walk.run(
            "curl -sS --fail -H Content-Type:application/timestamp-query --data-binary @contract.tsq \\\n"
            f"  --output contract.tsr {url}"
        )
        self.walk.run(
            "openssl ts -verify -in contract.tsr -data contract.txt -CAfile root.pem", expect="Verification: OK"
        )
        reply = self.walk.ask("openssl ts -reply -in contract.tsr -text 2> openssl.log")
        found = re.search(r"^Time stamp: (.+)$", reply, re.MULTILINE)
        if found is None:
            raise Unexpected("a time in the token", reply)
        return found[1]

    def _read_foreign_crl(self) -> None:
        (self.folder / "other.cnf").write_text(_OTHER_CA)
        self.walk.run("mkdir published && touch other.txt && echo 01 > other.number")
        self.walk.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj /CN=Other \\\n"
            "  -addext keyUsage=critical,keyCertSign,cRLSign -keyout other.key -out other.pem 2> openssl.log"
        )
        for name in ("kept", "lost"):
            self._certify(name, "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc")
        self.walk.run("openssl ca -batch -config other.cnf -revoke lost.pem 2> openssl.log")
        self.walk.run("openssl ca -config other.cnf -gencrl -out published/other.crl 2> openssl.log")
        self._publish()
        self.walk.run("intaglio settings set 'outgoing.networks=[\"127.0.0.0/8\"]'  # CRLs may come from this host")
        url = f"http://127.0.0.1:{self.publication_port}/other.crl"
        self.walk.run(f"intaglio ocsp authority create other --issuer other.pem --crl {url}", expect="other")
        self.walk.run("intaglio ocsp source pull other")

    def _publish(self) -> None:
        command = "python3 -u -m http.server 0 --bind 127.0.0.1 --directory published"
        server = self.walk.start(command, _PUBLICATION_LOG)
        self.walk.wait_until("the CRL is published", self._is_published, server, _PUBLICATION_LOG)

    def _is_published(self) -> bool:
        found = re.search(r" port (\d+) ", (self.folder / _PUBLICATION_LOG).read_text(errors="replace"))
        if found:
            self.publication_port = int(found[1])
        return bool(found)

    def _certify(self, name: str, request: str) -> None:
        self.walk.run(f"{request} -subj /CN={name} -keyout {name}.key -out {name}.csr 2> openssl.log")
        self.walk.run(f"openssl ca -batch -config other.cnf -in {name}.csr -out {name}.pem -notext 2> openssl.log")

    def _sign_responder(self) -> None:
        self.walk.run('intaglio ocsp signer create other --subject "CN=Other OCSP" --out responder.csr')
        self.walk.run(
            "openssl ca -batch -config other.cnf -extensions responder -in responder.csr -out responder.pem \\\n"
            "  -notext 2> openssl.log"
        )
        self.walk.run("intaglio ocsp signer import other responder.pem")

    def _ask_foreign(self) -> None:
        output = self.walk.run(
            "openssl ocsp -issuer other.pem -cert kept.pem -cert lost.pem -CAfile other.pem \\\n"
            f"  -url {self.installation.url('public')}/eva",
            expect="Response verify OK",
            output_shown=True,
        )
        if "kept.pem: good" not in output or "lost.pem: revoked" not in output:
            raise Unexpected("kept.pem good and lost.pem revoked", output)

    # -- looking back ------------------------------------------------------------------------------------------------

    def _search(self) -> None:
        command = "intaglio cert list --ca demo~issuing --filter subject=CN=bob"
        output = self.walk.run(command, expect=self._serial())
        if "revoked" not in output or "CN=localhost" in output:
            raise Unexpected("only Bob's certificate, revoked", output)

    def _events(self) -> None:
        output = self.walk.run("intaglio cert follow --ca demo~issuing --after 0 --once")
        about = [line for line in output.splitlines() if self._serial() in line]
        if len(about) != 2 or "issued" not in about[0] or "revoked" not in about[1]:
            raise Unexpected(f"that {self._serial()} was issued, then revoked", output)

    def _verify_audit(self) -> None:
        self.walk.run("intaglio audit verify", expect="intact", output_shown=True)

    # -- staying up --------------------------------------------------------------------------------------------------

    def _stay(self) -> None:
        assert self.server is not None
        self.walk.say(self._invitation())
        try:
            self.server.wait()
            self.walk.failed += 1
            self.walk.say(f"The server ended by itself:\n{self.walk.last_lines(_SERVER_LOG)}")
        except KeyboardInterrupt:
            self.walk.say("\nStopping.")

    def _invitation(self) -> str:
        environment = shlex.quote(str(self.installation.write_environment(CA=self._issuing_ca)))
        return f"""
{self.walk.passed} steps passed. It all keeps running until Ctrl-C, which also removes the folder. In another terminal:

   source {environment}

   intaglio status
   intaglio ca list
   intaglio cert issue --ca demo~issuing --profile privatessl-tls-server --dns www.example.com \\
     --key-out www.key --out www.pem
   intaglio cert list
   intaglio audit list
   curl --cacert platform.pem --cert alice.pem $CA/profiles
   intaglio mtls scenario run 7
   intaglio tsa stamp contract.txt --issuer contracts --out again.tsr
   intaglio ocsp source list
   intaglio --help

   {self.installation.url("console") + "/enroll/":<42} enrolment page; Carol's code is in code.txt
   {self._gateway:<42} CA gateway, reference at /docs (client certificate: alice.pem)
   {self.installation.url("console") + "/api/v1":<42} management API, contract at /openapi.json
   {self.installation.url("public"):<42} OCSP, timestamps, CRLs, CA certificates
   {self.installation.url("health") + "/metrics":<42} metrics

The one-time secret of the administrator "admin" is in init.txt. Guides: docs/guides
"""

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def _gateway(self) -> str:
        return f"{self.installation.url('gateway')}/cagw/v1"

    @property
    def _issuing_ca(self) -> str:
        return f"{self._gateway}/certificate-authorities/demo~issuing"

    def _serial(self) -> str:
        return self.walk.ask("openssl x509 -in bob.pem -noout -serial").partition("=")[2]

    def _end_of(self, certificate: str) -> str:
        date = self.walk.ask(f"openssl x509 -in {certificate} -noout -enddate").partition("=")[2]
        month, day, _, year, _ = date.split()
        return f"valid until {day} {month} {year}"


def _ignore_signals() -> None:
    """From here on everything is being stopped, and a second Ctrl-C must not leave a server behind."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
