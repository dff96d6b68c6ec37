"""The real warden and the real agent inside the jail: what the tests of the jail show with stand-ins
holds for them, the warden's seccomp filter included."""

import os

import jail
import link as linklib
import pytest
import wardens

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes sandboxes of several users")


@pytest.fixture(scope="module")
def kit():
    k = jail.Kit()
    yield k
    k.close()


@pytest.fixture(scope="module")
def box(kit):
    images = jail.built_images()
    assert images, "caged image build minimal"
    with jail.Broker(kit, warden=jail.tool("caged-warden")) as broker:
        yield broker.start("cage-realreal22", 1, images=images, config=wardens.config(isolation={"accel": "tcg"}), disk=1 << 30)


def test_warden_works_behind_its_filter_and_without_rights(box):
    link = linklib.Link.connect(box.control_path)
    started = link.call("start")
    assert "error" not in started, (started, box.log_text(), box.console_text()[-2000:])
    stream = link.open("exec", argv=["sh", "-c", "head -c 3000000 /dev/zero | tee /workspace/zeros | wc -c"], user="root")
    assert stream.closed()["exit_code"] == 0
    assert bytes(stream.out[1]).strip() == b"3000000"
    for pid in (box.warden, box.vmm):
        status = jail.status_of(pid)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["Uid"].split() == [str(jail.UID_BASE + 1)] * 4


def test_stop_ends_warden_vmm_and_keeper_in_order(box):
    link = linklib.Link.connect(box.control_path)
    link.call("stop", reason="enough", grace_ms=1000)
    cause, status = box.end(60)
    assert (cause, status) == (jail.VMM_ENDED, 0) or (cause, status) == (jail.WARDEN_ENDED, 0)
    for pid in (box.vmm, box.warden, box.keeper):
        jail.gone(pid)
