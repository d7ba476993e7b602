"""The chart, rendered by helm itself for every values file under helm/ci, and held against what reads its output."""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from penstock import __version__, settings
from penstock.observe.index_metrics import IndexMetrics
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.watch import Watch
from tests.chart import CHART, Manifest, binary, of_kind, render, run, template
from tests.conftest import ROOT, unavailable

VALUES = sorted((CHART / "ci").glob("*.yaml"))
KUBERNETES = ("1.29", "1.33", "1.37")
OTHERS = {"ExternalSecret", "ScaledObject", "PodMonitor", "PrometheusRule"}
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
    maps = {name: one["data"] for name, one in of_kind(manifests, "ConfigMap").items() if "dashboard" not in name}
    for name, spec in pods(manifests):
        for container in spec["containers"]:
            own = {one["name"]: one["value"] for one in container.get("env", [])}
            for source in container.get("envFrom", []):
                own |= maps[source["configMapRef"]["name"]]
            yield name, own


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_what_is_rendered_is_valid_for_kubernetes_and_pod_security(values: Path) -> None:
    lint = run(binary("helm"), "lint", CHART, "-f", values, "--strict", "--kube-version", "1.33.0")
    assert lint.returncode == 0, lint.stdout
    manifests = render("-f", values)
    assert manifests
    for one in manifests:
        if one["kind"] not in OTHERS:
            for version in KUBERNETES:
                if version == "1.29" and '"image": {"reference"' in json.dumps(one):
                    continue  # image volumes came later, as the values say
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
            spec, pod = one["spec"], one["spec"]["template"]["spec"]
            defaults = settings.QuerySettings() if name.endswith("query") else settings.IndexSettings()
            pause = 5 if name.endswith("query") else 0
            assert pod["terminationGracePeriodSeconds"] > defaults.drain_timeout_s + pause
            startup = pod["containers"][0]["startupProbe"]
            assert startup["periodSeconds"] * startup["failureThreshold"] < spec["progressDeadlineSeconds"]
            if any("nvidia" in resource for resource in pod["containers"][0]["resources"]["limits"]):
                assert spec["strategy"]["rollingUpdate"]["maxSurge"] == 0
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
        assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}, name


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("settings.kafka.topik=x", "topik"),
        ("settings.kafak.topic=x", "kafak"),
        ("settings.kafka.sasl_password=x", "sasl_password"),
        ("settings.index.order=newest", "order"),
        ("index.pipelines.wiki.kafka.topik=x", "topik"),
        ("index.pipelines.Wiki.kafka.topic=x", "Wiki"),
        ("indx.enabled=true", "indx"),
        ("model.accelerator=tpu", "accelerator"),
        ("model.source=image", "model.image is the image"),
        ("query.settings.qdrant.collection=wiki", "no stream of index.pipelines fills collection"),
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
    "search.api_key",
}  # fmt: skip
FIXED = {"http.enabled", "http.host", "http.port", "monitor.host", "monitor.port"}


def test_what_is_generated_is_up_to_date_and_the_version_is_penstocks() -> None:
    done = run(sys.executable, CHART / "generate.py", "--check")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def known_metrics() -> set[str]:
    index, query = IndexMetrics(["documents"]), QueryMetrics()
    for metrics in (index, query):
        metrics.models([])
    index.watch(Watch(), {}, {})
    query.watch({})
    types = re.findall(r"^# TYPE (\S+) (\S+)", (index.text() + query.text()).decode(), re.MULTILINE)
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


def test_every_alert_fires_on_its_fault_and_not_without(promtool: str, tmp_path: Path) -> None:
    rules = of_kind(render("-f", CHART / "ci/default-values.yaml", "--set", "monitoring.rules=true"), "PrometheusRule")[
        "release-penstock"
    ]["spec"]
    runbooks = {rule["alert"]: rule["annotations"]["runbook"] for group in rules["groups"] for rule in group["rules"]}
    cases = yaml.safe_load((ROOT / "tests/helm/alerts.yaml").read_text())
    assert {case["alert"] for case in cases["faults"]} == set(runbooks)
    quiet = [{"eval_time": "1h", "alertname": name, "exp_alerts": []} for name in runbooks]
    tests = [{"interval": "1m", "input_series": cases["healthy"], "alert_rule_test": quiet}]
    for case in cases["faults"]:
        said = {"summary": case["summary"], "runbook": runbooks[case["alert"]].replace("FRESHNESS_OBJECTIVE", "60.0")}
        fires = {"exp_labels": case["labels"], "exp_annotations": said}
        expected = [{"eval_time": "1h", "alertname": case["alert"], "exp_alerts": [fires]}]
        tests.append({"interval": "1m", "input_series": case["series"], "alert_rule_test": expected})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests}))
    done = run(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
