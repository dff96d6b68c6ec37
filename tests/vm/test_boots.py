"""Boots on a busy host. A guest that has to calibrate its clock against a timer that the host delays
waits for ever; the VMM's command line keeps it from having to. Time is not asserted, only that each
guest comes up before a deadline that stands for "never"."""

import contextlib
import os
import subprocess
import threading

import jail
import pytest

NEVER = 240
BUSY, BOOTS, AT_ONCE = 4, 20, 4

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes sandboxes of several users")


@contextlib.contextmanager
def busy_host():
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_twenty_boots_under_four_busy_loops_all_come_up():
    kit = jail.Kit()
    came_up, stuck = [], {}

    def boot(box):
        try:
            box.booted(timeout=NEVER)
            came_up.append(box.name)
        except (AssertionError, OSError) as e:
            stuck[box.name] = f"{e!r}; console: {box.console_text()[-500:]}"
        box.close()

    try:
        with jail.Broker(kit) as broker, busy_host():
            for first in range(0, BOOTS, AT_ONCE):
                boxes = [broker.start(f"cage-boot{n:04d}", n + 1, vcpus=1 + n % 2) for n in range(first, first + AT_ONCE)]
                threads = [threading.Thread(target=boot, args=[box]) for box in boxes]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
    finally:
        kit.close()
    assert stuck == {}
    assert len(came_up) == BOOTS
