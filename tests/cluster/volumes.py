"""A pod's volumes as folders: ConfigMaps and Secrets as the kubelet writes them, changed while the pod runs."""

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Api, Object
from tests.cluster.container import Mount


class NotThere(Exception):
    """The pod must wait: something that it mounts or reads does not exist yet."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """Of one pod, under ``folder``; ``image`` is the folder of an image by its name."""

    api: Api
    pod: Object
    folder: Path
    image: Callable[[str], Path]

    def make(self) -> None:
        """All of them, or what is in them anew; raises NotThere."""
        for volume in self.pod["spec"].get("volumes", []):
            if "image" not in volume and "persistentVolumeClaim" not in volume:
                self._make(volume, self.folder / volume["name"])

    def mounts(self, container: Object) -> Iterator[Mount]:
        """Where a container sees them."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            source = self._source(volumes[mount["name"]])
            if part := mount.get("subPath"):
                source /= part
            yield Mount(source, mount["mountPath"], mount.get("readOnly", False))

    def _source(self, volume: Object) -> Path:
        if (image := volume.get("image")) is not None:
            return self.image(image["reference"])
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            return self._claimed(claim["claimName"])
        return self.folder / str(volume["name"])

    def _claimed(self, name: str) -> Path:
        claims = f"/api/v1/namespaces/{self.pod['metadata']['namespace']}/persistentvolumeclaims"
        if (claim := self.api.find(f"{claims}/{name}")) is None:
            raise NotThere(f'persistentvolumeclaim "{name}" not found')
        volume = self.api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        return Path(volume["spec"]["hostPath"]["path"])

    def _make(self, volume: Object, folder: Path) -> None:
        group = self.pod["spec"].get("securityContext", {}).get("fsGroup", 0)
        if "emptyDir" in volume:
            if not folder.exists():
                folder.mkdir(parents=True)
                own(folder, group, 0o2777)
            return
        files: dict[str, bytes] = {}
        mode = 0o644
        for kind in ("secret", "configMap", "projected", "downwardAPI"):
            if kind in volume:
                files |= self._files(kind, volume[kind])
                mode = volume[kind].get("defaultMode", mode)
        project(folder, files, mode | 0o440 if group else mode, group)

    def _files(self, kind: str, source: Object) -> dict[str, bytes]:
        if kind == "projected":
            parts = [part for each in source["sources"] for part in each.items()]
            return {name: content for one, of in parts for name, content in self._files(one, of).items()}
        if kind == "serviceAccountToken":
            return {source["path"]: self._token(source)}
        if kind == "downwardAPI":
            return {
                item["path"]: field_of(self.pod, item["fieldRef"]["fieldPath"]).encode() for item in source["items"]
            }
        name = source.get("secretName") or source.get("name", "")
        data = content(self.api, self.pod["metadata"]["namespace"], kind, name, optional=source.get("optional", False))
        items = source.get("items")
        return data if items is None else {item["path"]: data[item["key"]] for item in items}

    def _token(self, source: Object) -> bytes:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        wanted = {"audiences": [source["audience"]] if "audience" in source else [],
                  "expirationSeconds": source.get("expirationSeconds", 3600), "boundObjectRef": bound}  # fmt: skip
        account = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{spec['serviceAccountName']}/token"
        made = self.api.post(account, {"spec": wanted})
        return str(made["status"]["token"]).encode()


def content(api: Api, namespace: str, kind: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
    """What a Secret or a ConfigMap holds; raises NotThere."""
    found = api.find(f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}")
    if found is None:
        if optional:
            return {}
        raise NotThere(f'{kind.lower()} "{name}" not found')
    data = found.get("data") or {}
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    return {key: value.encode() for key, value in data.items()}


def field_of(pod: Object, path: str) -> str:
    """A field as the downward API names it: metadata.labels['x'], status.podIP."""
    if path.endswith("']"):
        path, key = path.removesuffix("']").split("['")
        return str(pod["metadata"].get(path.removeprefix("metadata."), {}).get(key, ""))
    value: object = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def project(folder: Path, files: Mapping[str, bytes], mode: int, group: int) -> None:
    """Files of a mounted Secret: links through ``..data``, which changes all of them at once."""
    current = folder / "..data"
    if current.exists() and {one.name: one.read_bytes() for one in current.iterdir()} == dict(files):
        return
    folder.mkdir(parents=True, exist_ok=True)
    own(folder, group, 0o2755)
    dated = folder / f"..{time.time_ns()}"
    dated.mkdir()
    own(dated, group, 0o2755)
    for name, content in files.items():
        (dated / name).write_bytes(content)
        own(dated / name, group, mode)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    old = current.resolve() if current.is_symlink() else None
    (folder / "..data_tmp").symlink_to(dated.name)
    (folder / "..data_tmp").replace(current)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    for name in [one.name for one in folder.iterdir() if not one.name.startswith("..") and one.name not in files]:
        (folder / name).unlink()


def own(path: Path, group: int, mode: int) -> None:
    """Root's and the group's."""
    os.chown(path, 0, group)
    path.chmod(mode)
