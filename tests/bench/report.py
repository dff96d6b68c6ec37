"""The table of a run: printed as it grows, kept as Markdown and JSON with the machine described."""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADS = ("what", "figure", "yardstick, same run", "ratio or difference")
WIDTHS = (30, 46, 54, 0)


def _line(cells):
    return " ".join(f"{cell:{width}}" if width else cell for cell, width in zip(cells, WIDTHS)).rstrip()


def _output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def _stolen():
    """Ticks of all processors, and those of them that the host of this machine gave to others."""
    ticks = [int(n) for n in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[7]


class Report:
    def __init__(self, quick):
        self.quick, self.rows = quick, []
        self.load_begin, self.ticks_begin = os.getloadavg(), _stolen()
        print(_line(HEADS), flush=True)

    def add(self, what, figure, yardstick, compared="", **numbers):
        """One line; `numbers` go to the JSON as they are."""
        self.rows.append({"what": what, "figure": figure, "yardstick": yardstick, "compared": compared,
                          "numbers": {k: round(v, 4) for k, v in numbers.items()}})
        print(_line((what, figure, yardstick, compared)), flush=True)

    def machine(self, accel):
        cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
        release = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
        ticks = [now - then for now, then in zip(_stolen(), self.ticks_begin)]
        return {
            "cores": os.cpu_count(), "cpu": cpu[1] if cpu else "unknown",
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": release[1] if release else "unknown", "kernel": platform.release(),
            "qemu": _output("/usr/bin/qemu-system-x86_64", "--version").split("\n")[0], "acceleration": accel,
            "load_begin": [round(n, 2) for n in self.load_begin], "load_end": [round(n, 2) for n in os.getloadavg()],
            "stolen_percent": round(100 * ticks[1] / max(1, ticks[0]), 1),
            "commit": _output("git", "rev-parse", "--short", "HEAD") or "release"}

    def keep(self, accel, prefix=""):
        """Writes both files; their names without suffix."""
        m = self.machine(accel)
        today = datetime.date.today().isoformat()
        name = f"{prefix}{today}-{m['cores']}-cores-{round(m['memory_gib'])}-gib-{accel}" + ("-quick" if self.quick else "")
        folder = ROOT / "bench" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        text = [f"# Benchmarks of {today}, commit {m['commit']}" + (", few samples" if self.quick else ""), "",
                f"{m['cores']} cores ({m['cpu']}), {m['memory_gib']} GiB, {m['system']}, Linux {m['kernel']}, {m['qemu']}, "
                f"guests under {accel}.",
                f"Load average {', '.join(map(str, m['load_begin']))} at the start (before the first measure), "
                f"{', '.join(map(str, m['load_end']))} at the end; {m['stolen_percent']} % of the processors' time was stolen.", "",
                *([f"Meanwhile on this machine: {os.environ['BENCH_NOTE']}", ""] if os.environ.get("BENCH_NOTE") else []),
                "Machines are noisy, a shared one above all: a figure says little without the yardstick beside it,",
                "which was taken in the same run.", "",
                "| " + " | ".join(HEADS) + " |", "| --- | --- | --- | --- |"]
        text += [f"| {r['what']} | {r['figure']} | {r['yardstick']} | {r['compared']} |" for r in self.rows]
        path.with_name(name + ".md").write_text("\n".join(text) + "\n")
        path.with_name(name + ".json").write_text(
            json.dumps({"date": today, "quick": self.quick, "machine": m, "rows": self.rows}, indent=1) + "\n")
        return f"bench/results/{name}"
