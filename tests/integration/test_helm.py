"""The chart, rendered by helm itself for every values file under helm/ci, and held against what reads its output."""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from penstock import __version__, settings
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.lag_metrics import LagMetrics
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.watch import Watch
from tests.chart import CHART, Manifest, binary, of_kind, render, run, template
from tests.conftest import ROOT, unavailable

VALUES = sorted((CHART / "ci").glob("*.yaml"))
KUBERNETES = ("1.29", "1.33", "1.37")
OTHERS = {"ExternalSecret", "HTTPRoute", "ScaledObject", "PodMonitor", "PrometheusRule"}
"""Kinds of other projects, whose schemas come with their operators."""


@pytest.fixture(scope="session")
def promtool() -> str:
    if (found := shutil.which("promtool")) is None:
        unavailable("no promtool: it comes with Debian's prometheus")
    return str(found)


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for one in manifests:
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def environments(manifests: list[Manifest]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """What every container will have as its variables."""
    maps = {name: one.get("data", {}) for name, one in of_kind(manifests, "ConfigMap").items()}
    for name, spec in pods(manifests):
        for container in spec["containers"]:
            if "penstock" not in container["image"]:
                continue
            requests = container["resources"]["requests"]
            own = {one["name"]: one.get("value", requests["cpu"]) for one in container.get("env", [])}
            for source in container.get("envFrom", []):
                own |= maps.get(source["configMapRef"]["name"], {})
            yield name, own


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_what_is_rendered_is_valid_for_kubernetes_and_pod_security(values: Path) -> None:
    lint = run(binary("helm"), "lint", CHART, "-f", values, "--strict", "--kube-version", "1.37.0")
    assert lint.returncode == 0, lint.stdout
    manifests = render("-f", values)
    assert manifests
    for one in manifests:
        if one["kind"] not in OTHERS:
            for version in KUBERNETES:
                if version != "1.37" and '"image": {"reference"' in json.dumps(one):
                    continue  # image volumes came later, as the chart says
                kubernetes_validate.validate(one, version, strict=True)
    for name, spec in pods(manifests):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "image", "persistentVolumeClaim", "secret", "projected", "configMap"}, name


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_container_gets_settings_that_penstock_accepts(
    values: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PENSTOCK_KAFKA__SASL_PASSWORD").write_text("secret")
    (tmp_path / "PENSTOCK_HTTP__API_KEYS").write_text(json.dumps({"acme": "a key of sixteen"}))
    seen = 0
    for name, variables in environments(render("-f", values)):
        with monkeypatch.context() as patched:
            for variable, value in variables.items():
                patched.setenv(variable, str(tmp_path) if variable == "PENSTOCK_SECRETS" else value)
            chosen = settings.load()
        seen += 1
        if "index" in name and "setup" not in name:
            assert (chosen.monitor.host, chosen.monitor.port) == ("0.0.0.0", 9464)  # noqa: S104  # inside a pod
        if name.endswith("query"):
            assert (chosen.http.host, chosen.http.port) == ("0.0.0.0", 8080)  # noqa: S104
    assert seen


def test_settings_reach_the_workers_as_they_are_written() -> None:
    found = dict(environments(render("-f", CHART / "ci/gpu-keda-values.yaml")))
    wiki = found["release-penstock-index-wiki"]
    assert wiki["PENSTOCK_INDEX__MAX_EVENT_BYTES"] == "4000000"
    assert json.loads(wiki["PENSTOCK_QDRANT__FILTER_FIELDS"]) == {"section": "keyword", "year": "integer"}
    assert (wiki["PENSTOCK_KAFKA__TOPIC"], wiki["PENSTOCK_MODEL__PROVIDER"]) == ("wiki", "tensorrt,cuda")
    assert wiki["PENSTOCK_SECRETS"] == "/etc/penstock/secrets"
    assert found["release-penstock-query"]["PENSTOCK_RERANK__BUNDLE"] == "/models/qwen3-reranker-0.6b"


def test_keda_counts_the_lag_of_the_same_stream_and_alone_decides_on_replicas() -> None:
    manifests = render("-f", CHART / "ci/gpu-keda-values.yaml")
    variables, deployments = dict(environments(manifests)), of_kind(manifests, "Deployment")
    scaled = of_kind(manifests, "ScaledObject")
    assert len(scaled) == 2
    for name, one in scaled.items():
        assert one["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in deployments[name]["spec"]
        (trigger,) = one["spec"]["triggers"]
        of_worker, metadata = variables[name], trigger["metadata"]
        assert metadata["topic"] == of_worker["PENSTOCK_KAFKA__TOPIC"]
        assert metadata["consumerGroup"] == of_worker["PENSTOCK_KAFKA__GROUP"]
        assert metadata["bootstrapServers"] == of_worker["PENSTOCK_KAFKA__BOOTSTRAP_SERVERS"]
        assert metadata["offsetResetPolicy"] == "earliest"
        assert one["spec"]["maxReplicaCount"] <= int(of_worker["PENSTOCK_SETUP__PARTITIONS"])
    assert scaled["release-penstock-index-tickets"]["spec"]["maxReplicaCount"] == 3


def test_pods_have_time_to_drain_and_gpus_are_not_asked_for_twice() -> None:
    for values in VALUES:
        manifests = render("-f", values)
        for name, one in of_kind(manifests, "Deployment").items():
            if "lag-exporter" in name:
                continue  # it has nothing to drain
            spec, pod = one["spec"], one["spec"]["template"]["spec"]
            defaults = settings.QuerySettings() if "-query" in name else settings.IndexSettings()
            pause = 5 if "-query" in name else 0
            assert pod["terminationGracePeriodSeconds"] > defaults.drain_timeout_s + pause
            startup = pod["containers"][0]["startupProbe"]
            assert startup["periodSeconds"] * startup["failureThreshold"] < spec["progressDeadlineSeconds"]
            if any("nvidia" in resource for resource in pod["containers"][0]["resources"]["limits"]):
                assert spec["strategy"].get("rollingUpdate", {"maxSurge": 0})["maxSurge"] == 0
            probe = pod["containers"][0]["livenessProbe"]
            assert settings.MonitorSettings().stall_s + probe["periodSeconds"] * probe["failureThreshold"] <= 90


def test_the_test_pod_sends_to_the_stream_that_is_searched_and_may_reach_the_query_worker() -> None:
    manifests = render("-f", CHART / "ci/gpu-keda-values.yaml")
    found = dict(environments(manifests))
    sent, searched = found["release-penstock-test"], found["release-penstock-query"]
    assert sent["PENSTOCK_KAFKA__TOPIC"] == "wiki"
    assert sent["PENSTOCK_QDRANT__COLLECTION"] == searched["PENSTOCK_QDRANT__COLLECTION"] == "wiki"
    (policy,) = of_kind(manifests, "NetworkPolicy").values()
    assert {"port": 8080, "protocol": "TCP"} in [port for rule in policy["spec"]["egress"] for port in rule["ports"]]
    accounts = of_kind(manifests, "ServiceAccount")
    for name, spec in pods(manifests):
        assert spec["serviceAccountName"] in accounts, name
        assert "lag-exporter" in name or spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}, name


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("settings.kafka.topik=x", "topik"),
        ("settings.kafak.topic=x", "kafak"),
        ("settings.kafka.sasl_password=x", "sasl_password"),
        ("settings.index.order=newest", "order"),
        ("index.streams.wiki.settings.kafka.topik=x", "topik"),
        ("index.streams.Wiki.replicas=1", "Wiki"),
        ("indx.enabled=true", "indx"),
        ("model.accelerator=tpu", "accelerator"),
        ("model.source=image", "model.image is the image"),
        ("query.settings.qdrant.collection=wiki", 'no stream of index.streams fills collection "wiki"'),
        (
            "index.streams.wiki.settings.qdrant.collection=wiki",
            'no stream of index.streams fills collection "documents"',
        ),
        ("fullnameOverride=a-name-that-is-too-long-for-what-is-to-be-called-so", "choose a release name of at most 41"),
        ("index.terminationGracePeriodSeconds=20", "a worker may take 25 s to drain (settings.index.drain_timeout_s)"),
        ("settings.http.allow_insecure=true,query.httpRoute.enabled=true", "parentRefs names the gateways"),
        ("affinity.nodeAffinty.x=1", "nodeAffinty"),
        ("index.affinity.nodeAffinty.x=1", "nodeAffinty"),
        ("index.streams.wiki.resources.request.cpu=1", "request"),
        ("query.deployments.wiki.tolerations[0].keys=x", "keys"),
        ("strategy.typ=Recreate", "typ"),
        ("extraEnv[0].nam=x", "nam"),
        ("podLabels.team=1", "team"),
        ("secrets.variables.API_KEY.name=x", "API_KEY"),
        ("secrets.files.ca\\.crt.name=x", "key"),
        ("index.streams.wiki.kafka.topic=x", "kafka"),
        ("query.autoscaling.by=lag", "by"),
        (
            "index.streams.a.settings.qdrant.collection=a,index.streams.b.replicas=1",
            "index-a and index-b read the same topic",
        ),
        ("settings.http.allow_insecure=true,index.serviceAccount.create=false", "is to be made for another worker"),
        (
            "secrets.variables.PENSTOCK_REGISTRY__PASSWORD.name=a,secrets.variables.PENSTOCK_REGISTRY__PASSWORD.key=b",
            "whoever reaches the query workers",
        ),
        (
            "settings.http.allow_insecure=true,query.ingress.enabled=true,query.deployments.a.spread=true,query.deployments.b.spread=true",
            "query-a and query-b have the same place",
        ),
        (
            f"settings.http.allow_insecure=true,fullnameOverride={'a' * 40},query.deployments.{'b' * 30}.spread=true",
            "has a name of more than 63 letters",
        ),
        ("model.startupSeconds=0", "startupSeconds"),
        ("fullnameOverride=Foo_Bar", "fullnameOverride"),
        ("monitoring.freshnessObjectiveSeconds=45", "freshnessObjectiveSeconds"),
    ],
)
def test_a_wrong_value_fails_before_anything_is_installed(option: str, said: str) -> None:
    done = template("--set", option)
    assert done.returncode != 0
    assert said in done.stderr


def test_settings_of_the_values_mirror_those_of_penstock() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["settings"]
    assert list(values) == list(settings.Settings.model_fields)
    schema = json.loads((CHART / "values.schema.json").read_text())
    for group, field in settings.Settings.model_fields.items():
        own = set(field.annotation.model_fields)  # type: ignore[union-attr]
        left_out = {name for name in own if f"{group}.{name}" in SECRETS | FIXED}
        assert set(schema["$defs"][group]["properties"]) == own - left_out


SECRETS = {
    "kafka.sasl_password", "kafka.ssl_key_password", "registry.password", "qdrant.api_key", "http.api_keys",
    "search.api_key", "fetch.password",
}  # fmt: skip
FIXED = {"http.enabled", "http.host", "http.port", "monitor.host", "monitor.port"}


def test_what_is_generated_is_up_to_date_and_the_version_is_penstocks() -> None:
    done = run(sys.executable, CHART / "generate.py", "--check")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_what_a_worker_may_say_for_itself_is_what_the_chart_merges() -> None:
    picked = re.search(r"pick \.Values (.*?) \| toYaml", (CHART / "templates/_workloads.tpl").read_text(), re.DOTALL)
    assert picked is not None
    merged = set(re.findall(r'"(\w+)"', picked[1]))
    parts = json.loads((CHART / "values.schema.json").read_text())["properties"]
    for kind, workers in (("index", "streams"), ("query", "deployments")):
        one = parts[kind]["properties"][workers]["additionalProperties"]["properties"]
        own = set(yaml.safe_load((CHART / "values.yaml").read_text())[kind]) - {"enabled", workers}
        assert set(one) == merged | own


def known_metrics() -> set[str]:
    index, query, lag = IndexMetrics(["documents"]), QueryMetrics(), LagMetrics()
    for metrics in (index, query):
        metrics.models([])
    index.watch(Watch(), {}, {})
    query.watch(dict)
    query.follow(Watch())
    texts = b"".join(metrics.text() for metrics in (index, query, lag))
    types = re.findall(r"^# TYPE (\S+) (\S+)", texts.decode(), re.MULTILINE)
    names = {name for name, _ in types}
    names |= {f"{name}_{end}" for name, kind in types if kind == "histogram" for end in ("bucket", "count", "sum")}
    return names | {
        "penstock_gpu_utilization_ratio",
        "penstock_gpu_memory_used_bytes",
        "penstock_gpu_memory_total_bytes",
    }


def test_alerts_and_dashboards_use_metrics_that_exist() -> None:
    known = known_metrics()
    texts = {path.name: path.read_text() for path in (CHART / "monitoring").iterdir()}
    assert {"alerts.yaml", "index.json", "query.json"} <= set(texts)
    for name, text in texts.items():
        used = set(re.findall(r"penstock_\w+", text))
        assert used, name
        assert used <= known, f"{name}: {used - known}"


def test_each_branch_of_the_templates_does_what_its_suite_says() -> None:
    # each by its name, since it finds none to be no failure
    suites = sorted((ROOT / "tests/helm/unit").glob("*_test.yaml"))
    assert suites
    done = run(binary("helm-unittest"), "--strict", *[f"--file={path}" for path in suites], CHART)
    assert done.returncode == 0, done.stdout


NAMESPACE, RELEASE = "default", "release"
HERE = {"namespace": NAMESPACE, "release": RELEASE}
ELSEWHERE = ({"namespace": NAMESPACE, "release": "other"}, {"namespace": "other", "release": RELEASE})
TIMES = [f"{minute}m" for minute in range(30, 181, 2)]


def series_of(case: Mapping[str, Any], place: Mapping[str, str]) -> list[Mapping[str, str]]:
    """As the release's own pods have them, or Kubernetes of its objects, which are named after it."""

    def placed(one: Mapping[str, str]) -> Mapping[str, str]:
        name, _, labels = one["series"].rstrip("}").partition("{")
        own = place if name.startswith("penstock_") else {"namespace": place["namespace"]}
        inside = ",".join([*(f'{label}="{value}"' for label, value in own.items()), *filter(None, [labels])])
        return {**one, "series": f"{name}{{{inside}}}".replace("release-penstock", f"{place['release']}-penstock")}

    return [placed(one) for one in case["series"]]


def silent(rules: Mapping[str, Any], name: str, series: list[Mapping[str, str]], times: Sequence[str]) -> Manifest:
    """A case of promtool in which nothing is told."""
    quiet = [{"eval_time": time, "alertname": alert, "exp_alerts": []} for alert in rules for time in times]
    return {"name": name, "interval": "1m", "input_series": series, "alert_rule_test": quiet}


def fires(rules: Mapping[str, Any], case: Mapping[str, Any]) -> Manifest:
    """A case of promtool in which one alert is told, whatever else is."""
    of_kubernetes = {"deployment", "pod"} & case["labels"].keys()
    place = {"namespace": NAMESPACE} if of_kubernetes else HERE
    said = {"summary": case["summary"], "runbook_url": rules[case["alert"]]["annotations"]["runbook_url"]}
    alerts = [{"exp_labels": case["labels"] | place, "exp_annotations": said}]
    expected = [{"eval_time": case.get("at", "1h"), "alertname": case["alert"], "exp_alerts": alerts}]
    name = f"{case['alert']}: {case['name']}"
    return {"name": name, "interval": "1m", "input_series": series_of(case, HERE), "alert_rule_test": expected}


@pytest.fixture(scope="session")
def rules() -> Mapping[str, Any]:
    """By the alert's name, as the chart renders them."""
    streams = json.dumps({name: {"settings": {"kafka": {"topic": name}}} for name in ("documents", "wiki")})
    options = ("--set", "monitoring.rules=true", "--set-json", f"index.streams={streams}")
    rendered = render("-f", CHART / "ci/default-values.yaml", *options)
    spec = of_kind(rendered, "PrometheusRule")["release-penstock"]["spec"]
    return {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"]}


CASES = yaml.safe_load((ROOT / "tests/helm/alerts.yaml").read_text())


def told(promtool: str, folder: Path, rules: Mapping[str, Any], tests: list[Manifest]) -> str:
    """What promtool finds wrong with them."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": list(rules.values())}]}))
    (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests}))
    done = run(promtool, "test", "rules", folder / "tests.yaml")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_alert_fires_on_each_of_its_faults(promtool: str, rules: Mapping[str, Any], tmp_path: Path) -> None:
    assert {case["alert"] for case in CASES["faults"]} == set(rules)
    assert told(promtool, tmp_path, rules, [fires(rules, case) for case in CASES["faults"]]) == ""


def test_no_alert_fires_on_a_fault_of_another_release_or_namespace(
    promtool: str, rules: Mapping[str, Any], tmp_path: Path
) -> None:
    tests = []
    for case in CASES["faults"]:
        others = [series for place in ELSEWHERE for series in series_of(case, place)]
        tests.append(silent(rules, case["name"], others, [case.get("at", "1h")]))
    assert told(promtool, tmp_path, rules, tests) == ""


def test_no_alert_fires_while_all_is_well(promtool: str, rules: Mapping[str, Any], tmp_path: Path) -> None:
    tests = [silent(rules, case["name"], series_of(case, HERE), TIMES) for case in CASES["healthy"]]
    assert told(promtool, tmp_path, rules, tests) == ""


def test_every_series_of_an_alert_is_chosen_by_release_and_namespace() -> None:
    text = (CHART / "monitoring/alerts.yaml").read_text()
    found = re.findall(r"\b((?:penstock|kube)_\w+)(\{(?:SELECTOR|DEPLOYMENTS|PODS)\b)?", text)
    assert found
    assert [name for name, selector in found if not selector] == []


def test_every_alert_leads_to_its_part_of_the_runbook(rules: Mapping[str, Any]) -> None:
    headings = re.findall(r"^### (Penstock\w+)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    assert headings == list(rules)
    for name, rule in rules.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operating.md#{name.lower()}"


def test_no_dashboard_is_bound_to_one_release_or_one_grafana() -> None:
    for path in (CHART / "monitoring").glob("*.json"):
        board = json.loads(path.read_text())
        assert "uid" not in board
        names = {one["name"] for one in board["templating"]["list"]}
        assert names == {"source", "namespace", "release", "stream", "pod"}, path.name
        exprs = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        for expr in exprs:
            for selector in re.findall(r"\b(?:penstock|process)_\w+(\{[^}]*\}|)", expr):
                assert 'namespace=~"$namespace",release=~"$release"' in selector, f"{path.name}: {expr}"
