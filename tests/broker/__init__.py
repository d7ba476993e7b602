"""A real Apache Kafka broker for the tests: KRaft, one node, loopback, a temporary folder.

It has three listeners: one in the clear, where everything is allowed; one with TLS that asks for a password (PLAIN or
SCRAM) or a token (OAUTHBEARER, without a signature); and one with TLS and a certificate that has expired. Of its users
``alice`` may do everything, ``penstock`` what access control lists grant.
"""

import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

HERE = Path(__file__).parent
LIB = HERE / "lib"
START_S = 60.0


def missing() -> str | None:
    """What keeps a broker from starting here, or None."""
    if not shutil.which("java") or not shutil.which("keytool"):
        return "Java is missing: install a JRE 17 or later, or set KAFKA_BOOTSTRAP_SERVERS"
    if not list(LIB.glob("kafka_*.jar")):
        return "Kafka's jars are missing: `make test` fetches them with Maven, or set KAFKA_BOOTSTRAP_SERVERS"
    return None


class Broker:
    """A broker process; ``stop`` and ``start`` model an outage, with the same port and data."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        """Prepare its folder: ports, configuration, formatted storage. ``host`` is where others reach it."""
        self._folder, self._host = folder, host
        port, secure, expired, controller = free_ports(host, 4)
        self.bootstrap_servers = f"{host}:{port}"
        named = "localhost" if host == "127.0.0.1" else host
        self.secure_servers, self.expired_servers = f"{named}:{secure}", f"{named}:{expired}"
        self.ca_file = folder / "ca.pem"
        certificates = (
            self._make_certificate("keys"),
            self._make_certificate("expired", "-startdate", "-3d", "-validity", "1"),
        )
        self.ca_file.write_bytes(b"".join(certificates))
        ports = {
            "host": host,
            "named": named,
            "port": port,
            "secure": secure,
            "expired": expired,
            "controller": controller,
        }
        self._config = folder / "server.properties"
        self._config.write_text(_CONFIG.format(**ports, folder=folder))
        users = [f"{kind}=[name=alice,password=wonder-land]" for kind in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
        scram = [part for user in users for part in ("--add-scram", user)]
        formatting = ["format", "--cluster-id", uuid.uuid4().hex[:22], "--config", str(self._config), *scram]
        self._java("kafka.tools.StorageTool", *formatting).wait()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process = self._java("kafka.Kafka", str(self._config))
        deadline = time.monotonic() + START_S
        host, port = self.bootstrap_servers.split(":")
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection((host, int(port)), 0.5).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"the broker did not start:\n{(self._folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it on the spot, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _make_certificate(self, name: str, *valid: str) -> bytes:
        """A key pair that is its own authority, for localhost; its certificate for clients."""
        store = ["-keystore", str(self._folder / f"{name}.p12"), "-storepass", "changeit", "-alias", "broker"]
        names = ["-dname", f"CN={name}", "-ext", f"san=dns:localhost,ip:{self._host}", "-ext", "bc=ca:true"]
        make = ["keytool", "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *valid, *names, *store]
        export = ["keytool", "-exportcert", "-rfc", *store]
        return [subprocess.run(command, check=True, capture_output=True).stdout for command in (make, export)][-1]

    def _java(self, main: str, *arguments: str) -> "subprocess.Popen[bytes]":
        options = [
            "-Xmx512m",
            "-Xms128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # a broker that lives for minutes does not earn a second compilation back
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
        ]
        command = ["java", *options, "-cp", f"{LIB}{os.sep}*", main, *arguments]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)  # arguments are ours


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind((host, 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


_CONFIG = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},SASL_SSL://{host}:{secure},EXPIRED://{host}:{expired},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},SASL_SSL://{named}:{secure},EXPIRED://{named}:{expired}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,EXPIRED:SSL,CONTROLLER:PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:alice
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\\
  org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_alice="wonder-land" user_penstock="no-more-than-needed";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.location={folder}/keys.p12
listener.name.expired.ssl.keystore.location={folder}/expired.p12
ssl.keystore.password=changeit
ssl.keystore.type=PKCS12
controller.listener.names=CONTROLLER
log.dirs={folder}/data
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
log.flush.interval.messages=9223372036854775807
"""
