"""Interpreters for guests of the template minimal, which is of this machine's own release: Python with pip, and Node, are
carried in as they are installed here. For clients where no template with them was built; what a user gets is a template."""

import os
import pathlib
import re
import subprocess
import tarfile
import tempfile

GLIBC = re.compile(r"/(ld-linux|libc|libm|libpthread|libdl|librt|libresolv|libutil)[-.]")
# of Python's library: what no client needs
LEFT_OUT = re.compile(r"/(test|tests|idlelib|tkinter|lib2to3|ensurepip|pydoc_data|config-[^/]*|EXTERNALLY-MANAGED)(/|$)")


def libraries(*programs):
    """The shared libraries that they load, but for those that go with the kernel and the loader."""
    found = set()
    for program in programs:
        out = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        found |= {path for path in re.findall(r"(/\S+) \(0x", out) if not GLIBC.search(path)}
    return sorted(found)


def put(box, files):
    """Pairs of a path here and a path there, packed, sent and unpacked by the guest's root."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as packed:
        with tarfile.open(packed.name, "w", dereference=True) as tar:
            for here, there in files:
                tar.add(here, there, filter=lambda member: None if LEFT_OUT.search("/" + member.name) else member)
        with open(packed.name, "rb") as data:
            box.server.call("PUT", box.path + "/files/raw?path=/workspace/carried.tar", content=data).raise_for_status()
    box.run("tar -xf /workspace/carried.tar -C / --no-same-owner && rm /workspace/carried.tar && ldconfig", user="root", timeout_ms=600000)


def python(box):
    program = pathlib.Path("/usr/bin/python3").resolve()
    library = pathlib.Path("/usr/lib") / program.name
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "-m", "venv", folder], check=True, capture_output=True)  # has pip, compiled
        pip = next(pathlib.Path(folder).glob("lib/python3*/site-packages"))
        put(box, [(program, program), (program, "/usr/bin/python3"), (library, library), (pip, "/usr/local/lib/" + program.name + "/dist-packages"),
                  *((path, path) for path in libraries(program, *map(str, library.glob("lib-dynload/*.so"))))])
    box.run("printf '#!/bin/sh\\nexec python3 -m pip \"$@\"\\n' > /usr/local/bin/pip && chmod 755 /usr/local/bin/pip", user="root")


def node(box):
    """Node alone; no npm."""
    program = subprocess.run(["node", "-p", "process.execPath"], capture_output=True, text=True, check=True).stdout.strip()
    put(box, [(program, "/usr/local/bin/node"), *((path, path) for path in libraries(program))])


def have_node():
    return any(os.access(os.path.join(folder, "node"), os.X_OK) for folder in os.environ.get("PATH", "").split(":"))
