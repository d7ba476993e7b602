"""A container without an engine: a process in namespaces of its own, on a root that holds what image and pod name.

Beside that it sees this machine's /usr, read-only: Debian's Python, and the libraries that it needs.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PATH = "/opt/bin:/usr/bin:/bin"
"""Where ``python`` is this machine's Debian's, as in the image it is the base's."""
WORK = "/tmp"  # noqa: S108  # as the Dockerfile says
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of this machine, somewhere in a container."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Spec:
    """What runs where: ``root`` is an empty folder, ``network`` a namespace; ``groups`` beside the user's own."""

    root: Path
    network: str
    mounts: Sequence[Mount]
    hosts: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    user: int
    groups: Sequence[int] = ()
    writable: bool = False


class Container:
    """Its first process, from start to end."""

    def __init__(self, spec: Spec, log: Path) -> None:
        """Start it; what it says is appended to the log."""
        self._spec = spec
        command = ["nsenter", f"--net=/run/netns/{spec.network}", "unshare", "--mount", "--pid", "--ipc", "--uts",
                   "--fork", "--kill-child", "sh", "-c", _script(spec)]  # fmt: skip
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def poll(self) -> int | None:
        """Its exit code once it has ended, as a shell counts: 128 and the signal."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """To its first process."""
        with suppress(ProcessLookupError):
            for child in _children(self._process.pid):
                os.kill(child, number)

    def kill(self) -> None:
        """At once, all of it."""
        self.signal(signal.SIGKILL)
        if self._process.poll() is None and not _children(self._process.pid):
            self._process.kill()
        self._process.wait()

    def run(self, command: Sequence[str]) -> int:
        """Another command beside its first process, to its end; its exit code."""
        for child in _children(self._process.pid):
            inside = ["nsenter", "--target", str(child), "--all", f"--wd={WORK}", *_as_user(self._spec), *command]
            return subprocess.run(inside, check=False, capture_output=True).returncode
        return 1

    @property
    def memory_bytes(self) -> int:
        """What its processes hold that is not shared with files."""
        total, waiting = 0, list(_children(self._process.pid))
        while waiting:
            pid = waiting.pop()
            waiting += _children(pid)
            with suppress(OSError):
                _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
                total += (resident - shared) * PAGE_BYTES
        return total


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _as_user(spec: Spec) -> list[str]:
    groups = ["--groups", ",".join(map(str, spec.groups))] if spec.groups else ["--clear-groups"]
    rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return ["setpriv", f"--reuid={spec.user}", f"--regid={spec.user}", *groups, *rights]


def _script(spec: Spec) -> str:
    """Makes the root, then becomes the command."""
    root = shlex.quote(str(spec.root))
    lines = [
        "set -e", "mount --make-rprivate /", f"mount -t tmpfs -o mode=755 tmpfs {root}", f"cd {root}",
        "mkdir -p usr proc dev/shm etc tmp run var opt/bin", "ln -s /usr/bin/python3 opt/bin/python",
        "for name in bin sbin lib lib64; do ln -s usr/$name $name; done", "ln -s ../run var/run",
        "mount --bind /usr usr", "mount -o remount,bind,ro usr", "mount -t proc proc proc", "chmod 1777 tmp dev/shm",
        "for name in null zero full random urandom; do touch dev/$name; mount --bind /dev/$name dev/$name; done",
        "mkdir etc/ssl", "touch etc/ld.so.cache etc/localtime",
        "for name in ld.so.cache ssl localtime; do mount --bind /etc/$name etc/$name; done",
        f"cp {shlex.quote(str(spec.hosts))} etc/hosts", "touch etc/resolv.conf dev/termination-log",
        f"echo 'user:x:{spec.user}:{spec.user}::/tmp:/bin/sh' > etc/passwd",
    ]  # fmt: skip
    for mount in sorted(spec.mounts, key=lambda one: one.target):
        source, target = shlex.quote(str(mount.source)), shlex.quote(mount.target.lstrip("/"))
        made = f"mkdir -p {target}" if mount.source.is_dir() else f"mkdir -p $(dirname {target}); touch {target}"
        lines += [made, f"mount --rbind {source} {target}"]
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
    if not spec.writable:
        lines.append("mount -o remount,ro .")
    variables = [f"{name}={value}" for name, value in ({"PATH": PATH} | dict(spec.environment)).items()]
    inside = ["/usr/bin/env", "-i", "-C", WORK, *variables, *_as_user(spec), *spec.command]
    return "\n".join([*lines, f"exec chroot . {shlex.join(inside)}"])
