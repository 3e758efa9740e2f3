"""First process of a place: sets the namespaces up, then reaps what ends in them until it is killed itself.

Started by places.py as ``unshare --net --uts --ipc --mount --pid --fork python place_init.py ...``; imports
nothing of this project. When it ends, the kernel ends every process of the place and takes its mounts and
links away.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
from pathlib import Path


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def isolate_files(var: Path) -> None:
    """Give the place its own /run, /var, /dev/shm, /proc and /sys; the rest is the machine's.

    Mounts made later propagate to the mount namespaces below (containers' volumes), never to the machine's.
    """
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "place", "/run")
    for directory in (
        "lib/kubelet",
        "lib/containerd",
        "lib/cni",
        "log/pods",
        "log/containers",
        "tmp",
        "cache",
    ):
        (var / directory).mkdir(parents=True, exist_ok=True)
    (var / "tmp").chmod(0o1777)
    if not (var / "run").is_symlink():
        (var / "run").symlink_to("/run")
    mount("--bind", str(var), "/var")
    mount("-t", "tmpfs", "-o", "mode=1777", "place", "/dev/shm")
    # A new sysfs shows the links of this network namespace, but has no cgroups: keep them.
    cgroups = Path("/run/cgroups")
    cgroups.mkdir()
    mount("--rbind", "/sys/fs/cgroup", str(cgroups))
    mount("-t", "sysfs", "place", "/sys")
    mount("--rbind", str(cgroups), "/sys/fs/cgroup")
    subprocess.run(["umount", "--recursive", str(cgroups)], check=True)
    cgroups.rmdir()
    mount("-t", "proc", "place", "/proc")
    mount("--make-rshared", "/")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hostname", required=True)
    parser.add_argument("--ready", type=Path, required=True, help="file for this process's pid outside")
    parser.add_argument("--var", type=Path, help="folder for /var; without it files are not isolated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    outside = Path("/proc/self").readlink().name  # /proc is still the outer pid namespace's
    socket.sethostname(options.hostname)
    if options.var is not None:
        isolate_files(options.var)
    scratch = options.ready.with_suffix(".new")
    scratch.write_text(outside)
    scratch.rename(options.ready)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            # Nothing to reap now; orphans may come at any time, and bring SIGCHLD.
            signal.sigtimedwait([signal.SIGCHLD], 5)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    main()
