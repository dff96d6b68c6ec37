"""A server and sandboxes that belong to an unprivileged user, started by root of a test as far as this machine lets one."""

import contextlib
import os
import pathlib
import shutil
import subprocess

import product
import pytest

UID = 54321
# A tun that everybody may open, as distributions have it: this machine's may be root's alone.
OPEN_TUN = ["unshare", "-m", "sh", "-c",
            "mount -t tmpfs -o mode=755 tun /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec \"$@\"", "sh"]
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]


@contextlib.contextmanager
def server(config=None):
    """Skips where unprivileged users get no namespaces."""
    if subprocess.run([*AS_USER, "unshare", "-Urn", "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine gives unprivileged users no namespaces")
    kept = product.CAGED
    place = None
    # asked by a program that has no rights any more: setpriv itself still finds its way below a closed folder
    if subprocess.run([*AS_USER, "test", "-x", str(product.LIBEXEC / "caged-server")], capture_output=True).returncode != 0:
        place = pathlib.Path("/var/tmp") / f"caged-t-stage-{os.getpid()}"
        shutil.copytree(product.STAGE, place, symlinks=True)
        product.CAGED = place / "bin" / "caged"
    try:
        s = product.Server(config, env={"HOME": "/nonexistent", "XDG_RUNTIME_DIR": ""}, wrap=OPEN_TUN + AS_USER)
        os.chown(s.dir, UID, UID)
        with s:
            yield s
    finally:
        product.CAGED = kept
        if place:
            shutil.rmtree(place)


def processes():
    """Of that user: pid and name."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid == UID:
                found[int(pid)] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            pass
    return found
