#!/bin/sh
# Fetches Apache Kafka's jars into tests/broker/lib with Maven, unless they are there or a broker is given.
set -eu
cd "$(dirname "$0")"
[ -z "${KAFKA_BOOTSTRAP_SERVERS:-}" ] || exit 0
if [ -e lib/.fetched ] && [ ! pom.xml -nt lib/.fetched ]; then exit 0; fi
for tool in java mvn; do
  command -v $tool >/dev/null || {
    echo "penstock: $tool is missing, so tests with Kafka are skipped: install Java 17 and Maven, or set KAFKA_BOOTSTRAP_SERVERS" >&2
    exit 0
  }
done
echo "penstock: fetching Apache Kafka with Maven ..." >&2
mvn -q -B dependency:copy-dependencies
touch lib/.fetched
