"""``penstock fetch``: from servers of the test's own, as they are and as they should not be."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from penstock.models.bundle import load
from tests.bundle_servers import (
    INDEX,
    PASSWORD,
    S3,
    TAR,
    USER,
    BundleHub,
    OciRegistry,
    Plain,
    Server,
    digest,
    files,
    serving,
    tar,
)  # fmt: skip
from tests.integration.test_cli import SHIPPED, one_line
from tests.workers import PENSTOCK, environment, penstock

OTHER = SHIPPED.parent / "reranker"
REVISION = json.loads((SHIPPED / "bundle.json").read_bytes())["revision"]
LOGIN = {"FETCH__USERNAME": USER, "FETCH__PASSWORD": PASSWORD}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's owner, and no cloud around it, is asked."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.fixture
def registry() -> Iterator[OciRegistry]:
    with serving(OciRegistry()) as started:
        yield started


def address(registry: Server, tag: str = "1") -> str:
    return f"oci+http://{registry.address}/models/qwen3{tag if tag.startswith('@') else f':{tag}'}"


def fetched(folder: Path, *arguments: str, **variables: object) -> dict[str, Any]:
    done = penstock(folder, "fetch", *arguments, "--json", variables=variables)
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    assert files(folder / arguments[1]) == files(SHIPPED)
    assert not (folder / ".bundle.partial").exists()
    return report


def refused(folder: Path, *arguments: str, code: int = 2, variables: Mapping[str, object] | None = None) -> str:
    """What it says; the destination is as it was before."""
    before = files(folder / arguments[1])
    done = penstock(folder, "fetch", *arguments, variables=variables)
    said = done.stderr.decode().replace("fetching …\n", "")
    assert files(folder / arguments[1]) == before
    return one_line(subprocess.CompletedProcess(done.args, done.returncode, done.stdout, said.encode()), code)


def test_a_bundle_of_a_layer_per_file_is_fetched_once_and_then_verified(tmp_path: Path, registry: OciRegistry) -> None:
    registry.push_files("1", SHIPPED)
    report = fetched(tmp_path, address(registry), "bundle")
    assert report == {
        "folder": "bundle", "digest": digest((SHIPPED / "bundle.json").read_bytes()), "new": True,
        "source": "penstock/demo-embedding", "revision": REVISION, "task": "embedding",
    }  # fmt: skip
    assert load(tmp_path / "bundle").manifest.revision == REVISION
    blobs = [path for path in registry.asked if "/blobs/" in path]
    assert len(blobs) == len(set(blobs)) == len(files(SHIPPED))
    assert not fetched(tmp_path, address(registry), "bundle")["new"]
    assert len([path for path in registry.asked if "/blobs/" in path]) == len(blobs) + 1, "the manifest alone"


def test_where_the_digest_is_given_a_bundle_that_is_there_needs_no_registry(tmp_path: Path) -> None:
    with serving(OciRegistry()) as registry:
        registry.push_files("1", SHIPPED)
        pinned = fetched(tmp_path, address(registry), "bundle")["digest"]
    assert not fetched(tmp_path, address(registry), "bundle", "--digest", pinned)["new"]


def test_a_bundle_with_another_digest_is_refused(tmp_path: Path, registry: OciRegistry) -> None:
    registry.push_files("1", SHIPPED)
    wrong = f"sha256:{'0' * 64}"
    said = refused(tmp_path, address(registry), "bundle", "--digest", wrong)
    assert f"is {digest((SHIPPED / 'bundle.json').read_bytes())}, not {wrong}" in said
    assert "64 hexadecimal digits" in refused(tmp_path, address(registry), "bundle", "--digest", "latest")


@pytest.mark.parametrize("login", ["basic", "bearer"])
def test_a_registry_that_asks_for_a_login_gets_that_of_the_settings_or_of_a_file(tmp_path: Path, login: str) -> None:
    with serving(OciRegistry(login)) as registry:
        registry.push_files("1", SHIPPED)
        assert "401" in refused(tmp_path, address(registry), "bundle")
        wrong = LOGIN | {"FETCH__PASSWORD": "looking-glass"}
        said = refused(tmp_path, address(registry), "bundle", variables=wrong)
        assert "PENSTOCK_FETCH__USERNAME" in said
        assert "looking-glass" not in said
        fetched(tmp_path, address(registry), "bundle", **LOGIN)
        logins = tmp_path / "config.json"
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        logins.write_text(json.dumps({"auths": {registry.address: {"auth": auth}, "elsewhere": {}}}))
        fetched(tmp_path, address(registry), "another", FETCH__DOCKER_CONFIG=logins)
        logins.write_text("[]")
        assert "no file of logins" in refused(
            tmp_path, address(registry), "third", variables={"FETCH__DOCKER_CONFIG": logins}
        )


def test_a_reference_by_digest_gets_that_manifest_and_no_other(tmp_path: Path, registry: OciRegistry) -> None:
    pinned = registry.push_files("1", SHIPPED)
    registry.push_files("1", OTHER)
    fetched(tmp_path, address(registry, f"@{pinned}"), "bundle")
    registry.manifests[pinned] = registry.manifests["1"]
    assert "the registry answers with sha256:" in refused(tmp_path, address(registry, f"@{pinned}"), "another")


@pytest.mark.parametrize("under", ["", "qwen3", "models/qwen3"])
@pytest.mark.parametrize(("mode", "kind"), [("w", TAR), ("w:gz", f"{TAR}+gzip")])
def test_the_layers_of_an_image_hold_it_where_they_like(
    tmp_path: Path, registry: OciRegistry, under: str, mode: str, kind: str
) -> None:
    image = registry.push("amd64", registry.layer(tar(SHIPPED, under, mode), kind))
    attestation = {"digest": digest(b""), "size": 0, "platform": {"os": "unknown", "architecture": "unknown"}}
    built = {"digest": image, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}
    registry.tag("1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [attestation, built]})
    fetched(tmp_path, address(registry), "bundle")


def test_a_folder_as_oras_packs_it(tmp_path: Path, registry: OciRegistry) -> None:
    registry.push("1", registry.layer(tar(SHIPPED, "qwen3"), f"{TAR}+gzip", title="qwen3", unpack="true"))
    fetched(tmp_path, address(registry), "bundle")


def test_what_an_archive_holds_beside_the_bundle_is_never_written(tmp_path: Path, registry: OciRegistry) -> None:
    def add(archive: tarfile.TarFile) -> None:
        for name in ("../outside", "/tmp/penstock-outside", "qwen3/../../outside"):  # noqa: S108
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("qwen3/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)

    registry.push("1", registry.layer(tar(SHIPPED, "qwen3", add=add), f"{TAR}+gzip"))
    fetched(tmp_path, address(registry), "models/bundle")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".bundle.lock", "bundle"]
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", ".", "a\nb"])
def test_a_manifest_whose_names_lead_out_is_refused(tmp_path: Path, registry: OciRegistry, name: str) -> None:
    content = json.loads((SHIPPED / "bundle.json").read_bytes())
    content["files"][name] = content["files"]["tokenizer.json"]
    registry.push_files("1", SHIPPED, bundle_json=json.dumps(content).encode())
    assert "leads out of the bundle" in refused(tmp_path, address(registry), "models/bundle")
    assert not list(tmp_path.rglob("outside"))


def test_a_file_is_never_larger_than_the_manifest_says(tmp_path: Path, registry: OciRegistry) -> None:
    larger = (SHIPPED / "tokenizer.json").read_bytes() + b" "
    registry.push_files("1", SHIPPED, tokenizer_json=larger)
    assert "tokenizer.json is larger than" in refused(tmp_path, address(registry), "bundle")
    registry.push_files("2", SHIPPED, bundle_json=b"{" * (2 << 20))
    assert "bundle.json is larger than" in refused(tmp_path, address(registry, "2"), "bundle")
    copied = tmp_path / "copy"
    for file, content in files(SHIPPED).items():
        (copied / file).parent.mkdir(exist_ok=True)
        (copied / file).write_bytes(larger if file == "tokenizer.json" else content)
    registry.push("3", registry.layer(tar(copied), f"{TAR}+gzip"))
    assert "tokenizer.json is larger than" in refused(tmp_path, address(registry, "3"), "bundle")
    assert "tokenizer.json is larger than" in refused(tmp_path, str(copied), "bundle")


@pytest.mark.parametrize("broken", ["damaged", "longer", "shorter"])
def test_a_blob_that_is_not_what_its_digest_says_is_refused(tmp_path: Path, registry: OciRegistry, broken: str) -> None:
    registry.push_files("1", SHIPPED)
    weights = (SHIPPED / "cpu-int7.weights").read_bytes()
    changed = {"damaged": b"\0" + weights[1:], "longer": weights + b"\0", "shorter": weights[:-1]}
    registry.blobs[digest(weights)] = changed[broken]
    said = refused(tmp_path, address(registry), "bundle")
    assert digest(weights) in said
    assert "damaged on its way, or in the registry" in said
    registry.blobs[digest(weights)] = weights
    fetched(tmp_path, address(registry), "bundle")


def test_what_a_bundle_lacks_is_named(tmp_path: Path, registry: OciRegistry) -> None:
    kept = {name: content for name, content in files(SHIPPED).items() if name != "tokenizer.json"}
    registry.push("1", *(registry.layer(content, title=name) for name, content in kept.items()))
    assert "has no tokenizer.json, which its bundle.json lists" in refused(tmp_path, address(registry), "bundle")
    registry.push("2", registry.layer(b"hello", title="readme.md"))
    assert "holds no bundle.json" in refused(tmp_path, address(registry, "2"), "bundle")
    registry.push("3", registry.layer(b"no archive"))
    assert "is no archive" in refused(tmp_path, address(registry, "3"), "bundle")
    assert "404" in refused(tmp_path, address(registry, "4"), "bundle")


def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(tmp_path: Path, registry: OciRegistry) -> None:
    registry.push_files("1", SHIPPED)
    registry.cut, registry.failing = 5 << 20, 2
    fetched(tmp_path, address(registry), "bundle")
    assert [f"bytes={n * 5 << 20}-" for n in range(1, 5)] == registry.ranges


def test_a_registry_that_stays_away_is_told_as_such(tmp_path: Path) -> None:
    with serving(OciRegistry()) as registry:
        registry.push_files("1", SHIPPED)
    assert registry.address in refused(tmp_path, address(registry), "bundle", code=75)


def test_one_that_is_killed_is_gone_on_with_by_the_next(tmp_path: Path, registry: OciRegistry) -> None:
    registry.push_files("1", SHIPPED)
    weights = digest((SHIPPED / "cpu-int7.weights").read_bytes())
    registry.stall = 10 << 20
    partial = tmp_path / ".bundle.partial"
    command = [*PENSTOCK, "fetch", address(registry), "bundle"]
    with subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE) as process:
        half = partial / f".{weights.removeprefix('sha256:')}"
        while not half.exists() or half.stat().st_size < 5 << 20:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "bundle").exists()
    registry.stall = None
    before = len(registry.asked)
    fetched(tmp_path, address(registry), "bundle")
    again = [path for path in registry.asked[before:] if "/blobs/" in path]
    assert [path.rpartition("/")[2] for path in again] == [digest((SHIPPED / "bundle.json").read_bytes()), weights]
    assert registry.ranges[-1].startswith("bytes=")


def test_several_that_fetch_into_one_folder_do_it_once(tmp_path: Path, registry: OciRegistry) -> None:
    registry.push_files("1", SHIPPED)
    command = [*PENSTOCK, "fetch", address(registry), "bundle", "--json"]
    started = [
        subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(3)
    ]
    reports = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    assert sorted(report["new"] for report in reports) == [False, False, True]
    tokenizer = digest((SHIPPED / "tokenizer.json").read_bytes())
    assert len([path for path in registry.asked if path.endswith(tokenizer)]) == 1


def test_another_bundle_gives_way_only_when_that_is_asked_for(tmp_path: Path) -> None:
    penstock(tmp_path, "fetch", str(OTHER), "bundle")
    assert "holds another bundle" in refused(tmp_path, str(SHIPPED), "bundle")
    assert fetched(tmp_path, str(SHIPPED), "bundle", "--replace")["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bundle.lock", "bundle"]


def test_a_damaged_bundle_is_told_and_mended_when_that_is_asked_for(tmp_path: Path) -> None:
    fetched(tmp_path, str(SHIPPED), "bundle")
    (tmp_path / "bundle" / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is not what the export wrote" in refused(tmp_path, str(SHIPPED), "bundle")
    assert not (SHIPPED / "x").exists()
    assert fetched(tmp_path, str(SHIPPED), "bundle", "--replace")["new"]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("years of work")
    assert "not empty, and no bundle" in refused(tmp_path, str(SHIPPED), "bundle", "--replace")
    (tmp_path / "file").write_text("")
    assert "is no folder" in refused(tmp_path, str(SHIPPED), "file")
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    assert "is no folder" in refused(tmp_path, str(SHIPPED), "link")


def test_a_mount_point_is_not_renamed_to(tmp_path: Path) -> None:
    said = one_line(penstock(tmp_path, "fetch", str(SHIPPED), "/proc"), 2)
    assert "a volume is mounted there; name a folder in it: /proc/bundle" in said


@pytest.fixture
def s3() -> Iterator[tuple[S3, Mapping[str, str]]]:
    with serving(S3({f"models/qwen3/{name}": content for name, content in files(SHIPPED).items()})) as store:
        yield store, {"AWS_ENDPOINT_URL": f"http://{store.address}", "AWS_REGION": "eu-central-1"}


def test_a_bundle_in_a_store_that_speaks_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: tuple[S3, Mapping[str, str]]
) -> None:
    store, variables = s3
    for name, value in {**variables, "AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
        monkeypatch.setenv(name, value)
    said = refused(tmp_path, "s3://bucket/models/qwen3", "bundle")
    assert "s3://bucket/models/qwen3: bundle.json: the store refuses" in said
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    assert fetched(tmp_path, "s3://bucket/models/qwen3", "bundle")["new"]
    assert not fetched(tmp_path, "s3://bucket/models/qwen3/", "bundle")["new"]
    assert "holds no bundle.json" in refused(tmp_path, "s3://bucket/models", "another")
    store.objects = {**store.objects, "models/qwen3/tokenizer.json": b"x" * (1 << 20)}
    assert "tokenizer.json is larger than" in refused(tmp_path, "s3://bucket/models/qwen3", "another")
    store.objects = {**store.objects, "models/qwen3/tokenizer.json": b"x"}
    assert "tokenizer.json is not what its bundle.json lists" in refused(tmp_path, "s3://bucket/models/qwen3", "third")


def test_http_to_another_machine_is_for_those_who_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "PENSTOCK_FETCH__ALLOW_INSECURE" in refused(tmp_path, "oci+http://192.0.2.1/models/qwen3:1", "bundle")
    assert "PENSTOCK_FETCH__ALLOW_INSECURE" in refused(tmp_path, "http://192.0.2.1/models", "bundle")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1")
    assert "PENSTOCK_FETCH__ALLOW_INSECURE" in refused(tmp_path, "s3://bucket/models", "bundle")


def test_a_bundle_on_a_web_server(tmp_path: Path) -> None:
    with serving(Plain({f"/models/{name}": content for name, content in files(SHIPPED).items()})) as web:
        fetched(tmp_path, f"http://{web.address}/models", "bundle")


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_a_bundle_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    with serving(BundleHub("someone/bundle", files(SHIPPED))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{hub.address}")
        fetched(tmp_path, f"hf://someone/bundle{revision}", "bundle")
        first = revision.removeprefix("@") or "main"
        named = [path.split("/")[4] for path in hub.asked if "/resolve/" in path]
        assert named[0] == first
        assert set(named[1:]) == {hub.COMMIT}, "one commit, whoever pushes meanwhile"
        assert "HF_TOKEN" in refused(tmp_path, "hf://someone/else", "another")
        assert "holds no bundle.json" in refused_without_manifest(tmp_path, hub)
        hub.held = {**files(SHIPPED), "tokenizer.json": b"x" * (1 << 20)}
        assert "tokenizer.json is larger than" in refused(tmp_path, "hf://someone/bundle", "another")


def test_a_hub_that_goes_away_is_not_taken_for_one_without_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(BundleHub("someone/bundle", files(SHIPPED))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{hub.address}")
        hub.left = 3 * 3 + 1  # two questions about each of three files, themselves, and the first about the last
        refused(tmp_path, "hf://someone/bundle", "bundle", code=75)
        hub.left = None
        fetched(tmp_path, "hf://someone/bundle", "bundle")


def test_a_hub_that_is_away_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "127.0.0.1" in refused(tmp_path, "hf://someone/bundle", "bundle", code=75)


def refused_without_manifest(folder: Path, hub: BundleHub) -> str:
    hub.held = {"model.safetensors": b"x"}
    return refused(folder, "hf://someone/bundle", "third")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://x/y", "SOURCE begins with oci://"),
        ("oci://registry/models", "no reference"),
        ("oci://registry/models:1@sha256:12", "no reference"),
        ("oci://me:secret@registry/models:1", "no place for a user or a password"),
        ("hf://qwen3", "no repository"),
        ("nowhere", "there is no such folder"),
    ],
)
def test_a_source_that_is_none_is_told(tmp_path: Path, source: str, said: str) -> None:
    told = refused(tmp_path, source, "bundle")
    assert said in told
    assert "secret" not in told
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(("module", "source"), [("obstore", "s3://bucket/x"), ("huggingface_hub", "hf://someone/x")])
def test_without_the_extra_its_name_is_told(tmp_path: Path, module: str, source: str) -> None:
    program = (
        f"import sys; sys.modules['{module}'] = None; sys.argv = ['penstock', 'fetch', '{source}', 'x']\n"
        "from penstock.commands.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(tmp_path), cwd=tmp_path, capture_output=True, check=False
    )
    assert "needs the extra fetch" in one_line(done, 2)


def test_a_registry_with_a_certificate_of_its_own_authority(tmp_path: Path, registry: OciRegistry) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    registry.push_files("1", SHIPPED)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    registry.socket = context.wrap_socket(registry.socket, server_side=True)
    secure = f"oci://localhost:{registry.server_port}/models/qwen3:1"
    assert "PENSTOCK_FETCH__CA_FILE" in refused(tmp_path, secure, "bundle")
    fetched(tmp_path, secure, "bundle", FETCH__CA_FILE=tmp_path / "ca.pem")
    missing = refused(tmp_path, secure, "another", variables={"FETCH__CA_FILE": tmp_path / "none.pem"})
    assert "PENSTOCK_FETCH__CA_FILE" in missing
    assert "No such file" in missing


def test_a_login_is_not_sent_over_http_to_whom_a_registry_names(tmp_path: Path) -> None:
    with serving(OciRegistry("bearer")) as registry:
        registry.realm = "http://192.0.2.1/token"
        assert "192.0.2.1/token: the registry sends logins there" in refused(
            tmp_path, address(registry), "bundle", variables=LOGIN
        )
