"""The dashboard in Debian's chromium, by tests/e2e/figures.mjs: a record of a million events, a terminal that floods, first
pages. Yardsticks are of the same browser in the same run: an idle page's frames, and the list of sandboxes."""

import json
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def measure(out, stage, quick):
    if not shutil.which("node") or not (pathlib.Path(stage) / "share/caged/dashboard/index.html").exists():
        out.add("dashboard", "not measured", "node is missing, or the dashboard is not built")
        return
    events = 100_000 if quick else 1_000_000
    ran = subprocess.run(["node", "tests/e2e/figures.mjs", str(events)], cwd=ROOT, capture_output=True, text=True,
                         env={**os.environ, "CAGED_STAGE": str(stage)}, timeout=900)
    if ran.returncode != 0:
        out.add("dashboard", "not measured", ran.stderr.strip().split("\n")[-1][:100])
        return
    f = json.loads(ran.stdout)
    lists = f["list_usable_ms"]
    out.add(f"timeline of {events:,} events", f"first rows {f['first_rows_ms']:.0f} ms, a seek {f['seek_ms']:.0f} ms",
            f"list of sandboxes usable {lists:.0f} ms", f"{f['first_rows_ms'] / lists:.2f} x",
            first_rows_ms=f["first_rows_ms"], seek_ms=f["seek_ms"], summary_ms=f["summary_ms"], list_ms=lists)
    out.add("its memory in the browser", f"{f['first_heap_mb']:.1f} MB at first, {f['heap_mb']:.1f} MB after all of it",
            f"{f['first_bytes_mb']:.1f} MB loaded for the first picture", "",
            first_heap_mb=f["first_heap_mb"], heap_mb=f["heap_mb"], first_bytes_mb=f["first_bytes_mb"], dom_rows=f["dom_rows"])
    idle = f["flood_idle_fps"]
    for name, what in (("scroll", "scrolling through it"), ("play", "replaying it at 16 times"), ("flood", "a terminal that floods"), ("flood_4k", "the same at 3840x2160")):
        out.add(what, f"{f[f'{name}_fps']:.0f} frames/s, longest {f[f'{name}_longest_frame_ms']:.0f} ms",
                f"an idle terminal {idle:.0f} frames/s", f"{f[f'{name}_fps'] / idle:.2f} x", fps=f[f"{name}_fps"],
                longest_ms=f[f"{name}_longest_frame_ms"], idle_fps=idle)
    for name in ("create", "cost", "trust", "account"):
        out.add(f"page {name} usable", f"{f[f'{name}_usable_ms']:.0f} ms, shift {f[f'{name}_shift']:.3f}", f"list of sandboxes {lists:.0f} ms",
                f"{f[f'{name}_usable_ms'] / lists:.2f} x", usable_ms=f[f"{name}_usable_ms"], shift=f[f"{name}_shift"])
