#!/bin/sh
# Fetches Apicurio Registry, which speaks Confluent's API, into tests/registry/lib with Maven, unless it is there.
set -eu
cd "$(dirname "$0")"
if [ -e lib/.fetched ] && [ ! pom.xml -nt lib/.fetched ]; then exit 0; fi
for tool in java mvn; do
  command -v $tool >/dev/null || {
    echo "penstock: $tool is missing, so tests with a schema registry are skipped: install Java 17 and Maven" >&2
    exit 0
  }
done
echo "penstock: fetching a schema registry with Maven ..." >&2
rm -rf lib target
mvn -q -B dependency:unpack-dependencies
touch lib/.fetched
