"""caged-jail, driven as caged-server drives it, with real guests: the walls around VMM and warden, the
rules of the network as seen by root in a guest, who ends with whom, and what is left behind."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

import jail
import product
import pytest

ALLOWED = ("198.51.100.7", 32, 8080)
ROOTLESS_UID = 54321
# a node of our own lies over the machine's, which may be for root only
OPEN_TUN = ["unshare", "-m", "sh", "-c",
            "mount -t tmpfs tun /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec \"$@\"", "sh"]
AS_USER = ["setpriv", f"--reuid={ROOTLESS_UID}", f"--regid={ROOTLESS_UID}", "--clear-groups"]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes sandboxes of several users")


@pytest.fixture(scope="module")
def kit():
    k = jail.Kit()
    yield k
    k.close()


@pytest.fixture(scope="module")
def broker(kit):
    with jail.Broker(kit) as b:
        yield b


@pytest.fixture(scope="module")
def guest(broker):
    """A running sandbox that the tests of walls and network share."""
    box = broker.start("cage-shared22", 1, vcpus=2, mem_mib=384, disk=192 << 20,
                       net=[ALLOWED, ("192.0.2.0", 31, 0), ("203.0.113.255", 32, 0)])
    yield box.booted()


def new(broker, counter=iter(range(2, 1000)), **shape):
    n = next(counter)
    return broker.start(f"cage-test{n:04d}", n, **shape)


# --- walls ---


def test_vmm_has_no_rights_and_six_namespaces_of_its_own(guest):
    status, own = jail.status_of(guest.vmm), jail.namespaces(guest.vmm)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == status["Gid"].split() == [str(jail.UID_BASE + 1)] * 4
    assert status["Groups"] == ""
    host, warden = jail.namespaces(os.getpid()), jail.namespaces(guest.warden)
    for name in jail.NAMESPACES:
        assert own[name] not in (host[name], warden[name]), name


def test_warden_has_no_rights_and_only_the_network_of_the_host(guest):
    status, own, host = jail.status_of(guest.warden), jail.namespaces(guest.warden), jail.namespaces(os.getpid())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == [str(jail.UID_BASE + 1)] * 4
    assert [n for n in jail.NAMESPACES if own[n] == host[n]] == ["net"]


def test_keeper_gives_up_all_rights_but_to_kill(guest):
    status = jail.status_of(guest.keeper)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 5
    assert status["NoNewPrivs"] == "1"


def test_vmm_sees_only_the_files_it_needs_and_can_change_none(guest):
    root = f"/proc/{guest.vmm}/root"
    found = [os.path.join(folder, name)[len(root):] for folder, _, names in os.walk(root) for name in names
             if not folder.startswith(root + "/proc")]
    wanted = re.compile(r"/usr/bin/qemu-system-x86_64|/(usr/)?lib(64)?/(x86_64-linux-gnu/)?(qemu/)?[^/]+\.so[.0-9]*"
                        r"|/usr/share/(qemu|seabios)/[a-z_-]+\.(bin|rom)|/dev/(null|urandom)")
    assert found and [f for f in found if not wanted.fullmatch(f)] == []
    with open(f"/proc/{guest.vmm}/mountinfo") as f:
        mounts = [line.split() for line in f]
    assert [m[4] for m in mounts if "ro" not in m[5].split(",") and m[4] != "/proc"] == []
    assert os.listdir(root + "/proc").count("1") == 1
    assert not os.path.exists(root + "/proc/sys") and not os.path.exists(root + "/proc/meminfo")


def test_vmm_sees_no_network_but_its_tap(guest):
    with open(f"/proc/{guest.vmm}/net/dev") as f:
        names = {line.split(":")[0].strip() for line in f.readlines()[2:]}
    assert {"lo", "tap0"} <= names and "eth0" not in names
    with open(f"/proc/{guest.vmm}/net/route") as f:
        routes = [line.split() for line in f.readlines()[1:]]
    assert [r[0] for r in routes] == ["tap0"] and routes[0][1] != "00000000"


def test_warden_sees_a_read_only_root_and_its_own_descriptors(guest):
    guest.client.send(b"l")
    seen = guest.line(guest.client).split()
    assert seen[-1] == "read-only"
    assert set(seen[:-1]) - {".", ".."} <= {"dev", "etc", "lib", "lib64", "proc", "usr", "tmp"}


def test_warden_writes_into_its_sandbox_folder(guest):
    guest.client.send(b"f")
    assert guest.line(guest.client) == "ok"
    assert os.stat(guest.dir / "made-by-warden").st_uid == jail.UID_BASE + 1


def test_two_sandboxes_have_two_uids_and_two_networks(guest, broker):
    other = new(broker)
    assert jail.status_of(other.vmm)["Uid"] != jail.status_of(guest.vmm)["Uid"]
    assert jail.status_of(other.warden)["Uid"] != jail.status_of(guest.warden)["Uid"]
    assert jail.namespaces(other.vmm)["net"] != jail.namespaces(guest.vmm)["net"]
    other.close()


def test_guest_has_the_shape_that_was_asked_for(guest):
    info = json.loads(guest.tell("info"))
    assert info["cpus"] == 2
    assert 320 <= info["mem_mib"] <= 384
    assert info["vda"] == ["caged-base", (64 << 20) // 512]
    assert info["vdb"] == ["caged-disk", (192 << 20) // 512]


def test_guest_writes_its_disk_and_never_the_base_image(guest):
    assert guest.tell("write /dev/vdb") == "ok"
    assert (guest.dir / "disk.img").read_bytes()[:65536] == b"d" * 65536
    assert guest.tell("write /dev/vda") != "ok"
    assert (guest.dir / "base.img").read_bytes()[:65536] == bytes(65536)


# --- network ---


def accepted(guest, command, sock):
    """Runs a guest command that connects; the accepted socket and where the guest wanted to go."""
    guest.link.sendall(command.encode() + b"\n")
    connection, peer = sock.accept()
    raw = connection.getsockopt(socket.SOL_IP, 80, 16)  # SO_ORIGINAL_DST
    port, address = struct.unpack("!2xH4s", raw[:8])
    assert peer[0] == "172.30.0.2"
    return connection, (socket.inet_ntoa(address), port)


def test_allowed_connection_reaches_the_warden_with_its_destination(guest):
    connection, wanted = accepted(guest, "tcp 198.51.100.7 8080 hello", guest.tcp)
    assert wanted == ("198.51.100.7", 8080)
    assert connection.recv(100) == b"hello"
    connection.send(b"world")
    assert guest.line() == "ok world"


@pytest.mark.parametrize("address, port", [("192.0.2.0", 1), ("192.0.2.1", 65535), ("203.0.113.255", 22)])
def test_edges_of_an_allowed_network_are_inside(guest, address, port):
    connection, wanted = accepted(guest, f"tcp {address} {port}", guest.tcp)
    assert wanted == (address, port) and guest.line() == "ok"


@pytest.mark.parametrize("address, port", [
    ("198.51.100.7", 8081), ("198.51.100.6", 8080), ("192.0.2.2", 1), ("203.0.113.254", 22), ("100.64.0.1", 853),
    ("172.30.0.1", 1080), ("172.30.0.1", 22), ("10.0.0.1", 80), ("169.254.169.254", 80), ("172.30.0.3", 80)])
def test_connection_that_is_not_allowed_is_reset_and_counted(guest, address, port):
    before = guest.counters()["rejected"]
    # the last is the network's broadcast address, which the guest itself refuses
    assert guest.tell(f"tcp {address} {port}") in ("refused", "Permission denied", "Network unreachable")
    if address != "172.30.0.3":
        after = guest.counters()
        assert after["rejected"] == before + 1 and after["at"][(address, port)] >= 1


def test_where_rejected_packets_went_is_kept_for_a_bounded_number_of_places(guest):
    places = [(f"10.77.{i // 100}.{i % 100}", 1000 + i) for i in range(140)]
    before = guest.counters()
    for address, port in places:
        assert guest.tell(f"tcp {address} {port}") == "refused"
    after = guest.counters()
    assert after["rejected"] == before["rejected"] + 140  # a full set lets nothing through
    assert len(after["at"]) <= 128 and len([p for p in places if after["at"].get(p) == 1]) >= 100


@pytest.mark.parametrize("resolver", ["172.30.0.1", "8.8.8.8", "10.9.8.7"])
def test_dns_to_any_resolver_reaches_the_warden(guest, resolver):
    guest.link.sendall(f"udp {resolver} 53 question\n".encode())
    text, peer = guest.dns.recvfrom(512)
    assert text == b"question"
    guest.dns.sendto(b"answer", peer)
    assert guest.line() == "ok answer"
    connection, wanted = accepted(guest, f"tcp {resolver} 53 over-tcp", guest.dns_tcp)
    assert wanted == (resolver, 53) and connection.recv(100) == b"over-tcp"
    connection.close()
    assert guest.line().startswith("ok")


def test_other_udp_is_dropped_and_counted(guest):
    before = guest.counters()["dropped"]
    assert guest.tell("udp 8.8.8.8 443 quic") == "timeout "
    assert guest.tell("udp 172.30.0.1 5353 mdns") == "timeout "
    assert guest.counters()["dropped"] >= before + 2


GUEST_MAC, HOST_MAC = bytes.fromhex("02ca9e000002"), bytes.fromhex("02ca9e000001")


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(source, destination, protocol, payload, flags=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, flags, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def syn(source, destination, port):
    head = struct.pack("!HHIIBBHHH", 4321, port, 1, 0, 0x50, 2, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 6, len(head))
    return ip_packet(source, destination, 6, head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:])


def frame(payload, source=GUEST_MAC, destination=HOST_MAC, kind=0x0800):
    return (destination + source + struct.pack("!H", kind) + payload).ljust(60, b"\0")


FORGED = {
    "spoofed source": frame(syn("10.1.2.3", ALLOWED[0], ALLOWED[2])),
    "source is the host's end": frame(syn("172.30.0.1", ALLOWED[0], ALLOWED[2])),
    "another MAC": frame(syn("172.30.0.2", ALLOWED[0], ALLOWED[2]), source=bytes.fromhex("02ca9e0000aa")),
    "ICMP echo": frame(ip_packet("172.30.0.2", "172.30.0.1", 1, struct.pack("!BBHHH", 8, 0, 0xF7FE, 1, 0))),
    "GRE": frame(ip_packet("172.30.0.2", "172.30.0.1", 47, bytes(32))),
    "UDP with source port 53": frame(ip_packet("172.30.0.2", "9.9.9.9", 17, struct.pack("!HHHH", 53, 123, 12, 0) + b"abcd")),
    "IPv6": frame(struct.pack("!IHBB", 6 << 28, 8, 17, 64) + bytes.fromhex("fe80" + "00" * 13 + "02" + "ff02" + "00" * 13 + "01") + struct.pack("!HHHH", 53, 53, 8, 0), kind=0x86DD),
    "VLAN": frame(struct.pack("!HH", 5, 0x0800) + syn("172.30.0.2", ALLOWED[0], ALLOWED[2]), kind=0x8100),
    "802.3 frame without a type": frame(bytes(46), kind=46),
    "unknown protocol": frame(bytes(46), kind=0x88B5),
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_frame_is_dropped_and_counted(guest, what):
    before = guest.counters()["dropped"]
    assert guest.tell("raw " + FORGED[what].hex()) == "ok"
    product.wait_for(f"{what} is counted", lambda: guest.counters()["dropped"] > before, timeout=10)
    guest.tcp.setblocking(False)
    with pytest.raises(BlockingIOError):
        guest.tcp.accept()
    guest.tcp.settimeout(60)


def test_same_frame_unforged_is_answered(guest):
    """What the forged ones differ from does get through: the tests above test the difference."""
    rejected = guest.counters()["rejected"]
    assert guest.tell("raw " + frame(syn("172.30.0.2", "10.9.9.9", 80)).hex()) == "ok"
    product.wait_for("the SYN is rejected", lambda: guest.counters()["rejected"] > rejected, timeout=10)


def test_process_in_the_vmms_network_cannot_reach_the_wardens_ports(guest):
    """Even code that has taken the VMM over has no way around the rules of the tap."""
    script = ("import socket\ns = socket.socket()\ns.settimeout(2)\n"
              "try: s.connect(('172.30.0.1', 1080)); print('connected')\nexcept OSError: print('no')")
    done = subprocess.run(["nsenter", "-t", str(guest.vmm), "-n", "/usr/bin/python3", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "no", done.stderr


# --- the VMM's control, as the warden uses it (src/vmm/qemu) ---


def qmp(box, execute, **arguments):
    """One command and its answer; events on the way are dropped."""
    box.qmp.sendall(json.dumps({"execute": execute, "id": 1, "arguments": arguments}).encode() + b"\n")
    while "id" not in (answer := json.loads(box.line(box.qmp))):
        pass
    return answer


def test_vmm_pauses_resumes_resizes_and_stops_when_told(broker):
    box = new(broker, disk=64 << 20).booted()
    assert "QMP" in json.loads(box.line(box.qmp))
    assert qmp(box, "qmp_capabilities") == {"return": {}, "id": 1}
    assert qmp(box, "stop")["return"] == {}
    assert qmp(box, "query-status")["return"]["status"] == "paused"
    box.link.sendall(b"info\n")
    box.link.settimeout(1)
    with pytest.raises(TimeoutError):
        box.link.recv(1)
    assert qmp(box, "cont")["return"] == {}
    assert json.loads(box.line())["vdb"] == ["caged-disk", (64 << 20) // 512]
    os.truncate(box.dir / "disk.img", 96 << 20)
    assert qmp(box, "block_resize", **{"node-name": "disk", "size": 96 << 20})["return"] == {}
    product.wait_for("the guest sees the new size", lambda: json.loads(box.tell("info"))["vdb"][1] == (96 << 20) // 512)
    assert qmp(box, "quit")["return"] == {}
    jail.gone(box.vmm)
    box.client.send(b"q")
    assert box.end() == (jail.VMM_ENDED, 0)


# --- floods ---


def test_console_flood_stays_bounded_with_both_ends_kept(broker):
    box = new(broker).booted()
    assert box.tell("console 3000000", timeout=300) == "ok"
    box.tell("info")
    text = product.wait_for("the end of the flood", lambda: "flood 000002999" in (t := box.console_text()) and t, timeout=60)
    assert os.stat(box.console).st_size <= 800 * 1024
    assert "flood 000000000" in text and text.count("[caged: ") == 1
    box.close()


def test_wardens_log_flood_stays_bounded(broker):
    box = new(broker).attach()
    box.client.send(b"n")
    product.wait_for("the end of the noise", lambda: "noise 19999" in box.log_text(), timeout=60)
    assert os.stat(box.logfile).st_size <= 800 * 1024
    box.close()


# --- ends ---


def left_over(uid):
    """Living processes of a uid."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == uid and product.alive(pid):
                found.append(int(pid))
    return found


def all_gone(box):
    for pid in (box.vmm, box.warden, box.keeper):
        jail.gone(pid)
    assert left_over(jail.UID_BASE + box.slot) == []


def test_guest_that_powers_off_ends_the_sandbox(broker):
    box = new(broker).booted()
    box.link.sendall(b"poweroff\n")
    jail.gone(box.vmm)
    assert product.alive(box.warden)
    box.client.send(b"q")
    assert box.end() == (jail.VMM_ENDED, 0)
    all_gone(box)


def test_guest_that_reboots_ends_the_sandbox(broker):
    box = new(broker).booted()
    box.link.sendall(b"reboot\n")
    jail.gone(box.vmm)
    box.client.send(b"q")
    assert box.end() == (jail.VMM_ENDED, 0)


def test_killed_vmm_leaves_the_warden_time_but_not_for_ever(broker):
    box = new(broker)
    os.kill(box.vmm, signal.SIGKILL)
    jail.gone(box.vmm)
    assert product.alive(box.warden)
    assert box.end() == (jail.VMM_ENDED, signal.SIGKILL)
    all_gone(box)


def test_ended_warden_takes_the_vmm_with_it(broker):
    box = new(broker).attach()
    box.client.send(b"q")
    assert box.end() == (jail.WARDEN_ENDED, 7 << 8)
    all_gone(box)


def test_killed_keeper_takes_both_with_it(broker):
    box = new(broker)
    os.kill(box.keeper, signal.SIGKILL)
    all_gone(box)
    assert box.reply_sock.recv(100) == b""


def test_kill_is_idempotent_and_ends_everything(broker):
    box = new(broker)
    broker.kill(box.name, box.slot)
    broker.kill(box.name, box.slot)
    assert box.end()[0] == jail.KILLED
    all_gone(box)
    broker.kill(box.name, box.slot)
    broker.kill("cage-never2222", 9)
    new(broker).close()  # the broker still serves


@pytest.mark.parametrize("sig", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1])
def test_keeper_ignores_what_terminals_send(guest, sig):
    os.kill(guest.keeper, sig)
    assert guest.counters() is not None and product.alive(guest.vmm)


def locked_by(box):
    """The pid that holds keeper.lock, as a restarted server asks for it."""
    with open(box.rundir / "keeper.lock", "rb") as f:
        answer = fcntl.fcntl(f, fcntl.F_GETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
    kind, _, _, _, pid = struct.unpack("hhqqi", answer)
    return pid if kind != fcntl.F_UNLCK else 0


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_sandbox_survives_its_server_and_broker_and_the_next_finds_it(kit, how):
    with jail.Broker(kit) as first:
        box = first.start("cage-survivor", 700)
        assert locked_by(box) == box.keeper
        if how == "killed":
            first.process.kill()
        first.stop()
        box.reply_sock.close()
        assert product.alive(box.vmm) and product.alive(box.warden) and locked_by(box) == box.keeper
        with jail.Broker(kit, run=first.run) as second:
            second.kill("cage-survivor", 700)
            all_gone(box)
            assert locked_by(box) == 0


def test_second_keeper_for_a_sandbox_is_refused(broker):
    box = new(broker)
    refused = jail.Box(broker, box.name, box.slot, reuse=True).answer()
    assert not refused["ok"] and "another keeper" in refused["text"]
    assert product.alive(box.vmm)
    box.close()


# --- requests that a server gone bad could make ---


@pytest.mark.parametrize("bad, word", [
    ({"slot": 0}, "slot"), ({"slot": 65001}, "slot"), ({"vcpus": 0}, "vCPUs"), ({"vcpus": 9}, "vCPUs"),
    ({"mem_mib": 64}, "MiB"), ({"mem_mib": 1 << 20}, "MiB"), ({"accel": 7}, "acceleration"),
    ({"net": [("1.2.3.4", 33, 1)]}, "prefix"), ({"magic": 1}, "understood"), ({"name": "../../etc"}, "understood"),
    ({"name": ""}, "understood"), ({"name": "a/b"}, "understood"), ({"op": 99}, None)])
def test_request_out_of_range_is_refused_with_its_reason(broker, bad, word):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fields = {"op": jail.START, "slot": 5, "name": "cage-bad22222", **bad}
    null = os.open("/dev/null", os.O_RDWR)
    broker.send(fields.pop("op"), fds=[theirs.fileno()] + [null] * 10, **fields)
    theirs.close()
    os.close(null)
    ours.settimeout(20)
    data = ours.recv(4096)
    if word is None:
        assert data == b""
    else:
        assert jail.REPLY.unpack(data)[1] == 0 and word in jail.REPLY.unpack(data)[7].decode()
    assert broker.process.poll() is None


def test_request_with_wrong_descriptors_or_length_is_refused(broker):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker.send(jail.START, slot=5, name="cage-bad22222", fds=[theirs.fileno()])
    ours.settimeout(20)
    assert "descriptors" in jail.REPLY.unpack(ours.recv(4096))[7].decode()
    broker.sock.send(b"x" * 10)
    broker.sock.send(b"x" * 100000)
    broker.send(jail.SWEEP)
    theirs.close()
    new(broker).close()


def test_failing_start_says_why_and_leaves_nothing(kit):
    with jail.Broker(kit) as b:
        os.chmod(kit.kernel, 0o600)
        try:
            answer = b.start("cage-unread22", 9, wait=False).answer()
        finally:
            os.chmod(kit.kernel, 0o644)
        assert not answer["ok"] and "readable by everyone" in answer["text"]
        assert left_over(jail.UID_BASE + 9) == []


def test_directory_that_is_not_the_servers_is_never_given_away(kit):
    with jail.Broker(kit) as b:
        answer = b.start("cage-foreign2", 9, wait=False, folder="/etc").answer()
        assert not answer["ok"] and "not to the server" in answer["text"]
        assert os.stat("/etc").st_uid == 0


# --- without user namespaces ---

# Root of a user namespace that has all ids, its own limit of such namespaces, and that at 0: the same
# calls fail and succeed as for root on a machine that has them switched off.
NO_USERNS = ["/usr/bin/python3", "-c", """
import ctypes, os, sys
a, b = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(a[1], b"x"); os.read(b[0], 1)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
    os.setgroups([]); os.execvp(sys.argv[1], sys.argv[1:])
os.read(a[0], 1)
for name in ("uid_map", "gid_map"):
    open(f"/proc/{pid}/{name}", "w").write("0 0 4294967295")
os.write(b[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""]


def test_root_without_user_namespaces_has_every_other_wall_and_says_so(kit):
    with jail.Broker(kit, wrap=NO_USERNS) as b:
        box = b.start("cage-nouserns", 4, net=[ALLOWED]).booted()
        assert box.reply["warnings"] & jail.NO_USERNS
        for pid in (box.vmm, box.warden):
            status = jail.status_of(pid)
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
            assert status["NoNewPrivs"] == "1" and status["Uid"].split() == [str(jail.UID_BASE + 4)] * 4
        own, host = jail.namespaces(box.vmm), jail.namespaces(os.getpid())
        assert all(own[n] != host[n] for n in jail.NAMESPACES if n != "user")
        assert box.tell("tcp 198.51.100.7 80") == "refused" and box.counters()["rejected"] == 1
        os.kill(box.keeper, signal.SIGKILL)
        all_gone(box)


# --- without root ---


def test_rootless_sandbox_has_the_same_walls(kit):
    with jail.Broker(kit, rootless=True, wrap=OPEN_TUN + AS_USER, owner=ROOTLESS_UID) as b:
        box = b.start("cage-rootless", 3, net=[ALLOWED]).booted()
        assert box.reply["warnings"] & jail.ONE_UID
        for pid in (box.vmm, box.warden):
            status = jail.status_of(pid)
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1"
            assert status["Uid"].split() == [str(ROOTLESS_UID)] * 4
        assert jail.status_of(box.vmm)["Seccomp"] == "2"
        own, host = jail.namespaces(box.vmm), jail.namespaces(os.getpid())
        assert all(own[n] != host[n] for n in jail.NAMESPACES)
        connection, wanted = accepted(box, "tcp 198.51.100.7 8080", box.tcp)
        assert wanted == ("198.51.100.7", 8080) and box.line() == "ok"
        assert box.tell("tcp 198.51.100.7 80") == "refused"
        assert box.counters()["rejected"] == 1
        os.kill(box.keeper, signal.SIGKILL)
        for pid in (box.vmm, box.warden):
            jail.gone(pid)


def test_rootless_with_a_closed_tun_names_it(kit):
    with jail.Broker(kit, rootless=True, wrap=AS_USER, owner=ROOTLESS_UID) as b:
        if os.stat("/dev/net/tun").st_mode & 0o006:
            pytest.skip("this machine's tun is open to everyone")
        answer = b.start("cage-notun222", 3, wait=False).answer()
        assert not answer["ok"] and "/dev/net/tun: Permission denied" in answer["text"]


# --- check and probe ---


def check(wrap=()):
    done = subprocess.run([*wrap, jail.tool("caged-jail"), "--check"], capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode == 0) == all(line["ok"] for line in lines if line["required"])
    return {line["check"]: line for line in lines}


def test_check_walks_every_layer(kit):
    found = check()
    assert list(found) == ["tools", "files", "userns", "tun", "tap", "nft", "redirect", "chroot", "seccomp", "cgroup"]
    for name in ("tools", "userns", "tun", "tap", "nft", "redirect", "chroot", "seccomp"):
        assert found[name]["ok"], found[name]


def test_check_without_root_names_a_closed_tun_and_how_to_open_it(kit):
    assert check(OPEN_TUN + AS_USER)["redirect"]["ok"]
    closed = check(["unshare", "-m", "sh", "-c", "mount -t tmpfs tun /dev/net && exec \"$@\"", "sh"] + AS_USER)
    assert not closed["tun"]["ok"] and "/dev/net/tun" in closed["tun"]["detail"] and "modprobe tun" in closed["tun"]["fix"]


def probe(kit, *options, wrap=()):
    start = time.monotonic()
    done = subprocess.run([*wrap, jail.tool("caged-jail"), "--probe", kit.kernel, kit.initramfs, *options],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), time.monotonic() - start


def test_probe_never_hangs_and_says_why(kit, tmp_path):
    """On machines whose /dev/kvm opens but runs no guest, this is the deadline at work."""
    wrap = []
    if os.path.exists("/dev/kvm"):
        wrap = ["unshare", "-m", "sh", "-c", "mount -t tmpfs k /mnt && cp -a /dev/kvm /mnt/kvm && chmod 666 /mnt/kvm && "
                "mount --bind /mnt/kvm /dev/kvm && exec \"$@\"", "sh"]
    cache = tmp_path / "probe.json"
    first, _ = probe(kit, "--cache", cache, wrap=wrap)
    assert first["accel"] in ("kvm", "tcg") and first["reason"] and not first["cached"]
    assert first["tsc_khz"] > 100000
    assert first["accel"] == "kvm" or first["reason"].startswith("no KVM: ")
    again, _ = probe(kit, "--cache", cache, wrap=wrap)
    assert again["cached"] and again["accel"] == first["accel"] and again["reason"] == first["reason"]
    assert product.processes_naming("caged.probe=1") == {}


def test_probes_verdict_is_forgotten_when_the_guest_changes(kit, tmp_path):
    cache = tmp_path / "probe.json"
    cache.write_text('{"accel":"kvm","reason":"forged","cpu":"x","kvm":"x","host_kernel":"x","vmm":"x","guest":"x"}')
    found, _ = probe(kit, "--cache", cache)
    assert found["reason"] != "forged" and not found["cached"]


def test_probe_of_one_acceleration_boots_a_guest(kit):
    done = subprocess.run([jail.tool("caged-jail"), "--probe", kit.kernel, kit.initramfs, "--accel", "tcg"], capture_output=True, text=True)
    assert json.loads(done.stdout)["ok"] and done.returncode == 0, done.stdout
    bad = subprocess.run([jail.tool("caged-jail"), "--probe", kit.initramfs, kit.kernel, "--accel", "tcg"], capture_output=True, text=True)
    assert not json.loads(bad.stdout)["ok"] and bad.returncode == 1
    assert "VMM ended" in json.loads(bad.stdout)["detail"]
