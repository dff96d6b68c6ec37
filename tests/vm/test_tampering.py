"""Root in the guest against its observer: hooks that stop, an agent that is held still, a clock that is moved, connections that go
around the hooks or never leave. Each is a gap in the record, and costs trust; what is usual costs nothing."""

import os
import textwrap

import outside
import product
import pytest
from outside import GOOD

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")

# Opens connections in every way that programs do, each with a word to the server and back.
USUAL = r"""
    use strict; use Socket; use Socket qw(AF_INET6 pack_sockaddr_in6 inet_pton);
    my ($address, $port) = @ARGV;
    my $to = pack_sockaddr_in($port, inet_aton($address));
    sub talk { my ($s, $how) = @_; syswrite($s, $how); my $got = ""; sysread($s, $got, 100); print "$how ", $got eq $how ? "fine" : "bad", "\n"; close $s; }
    socket(my $a, AF_INET, SOCK_STREAM, 6); connect($a, $to) or die "connect: $!"; talk($a, "blocking");
    socket(my $b, AF_INET, SOCK_STREAM | 04000, 6); connect($b, $to);
    my $w = ""; vec($w, fileno($b), 1) = 1; select(undef, $w, undef, 60); fcntl($b, 4, 0); talk($b, "nonblocking");
    socket(my $c, AF_INET6, SOCK_STREAM, 6); connect($c, pack_sockaddr_in6($port, inet_pton(AF_INET6, "::ffff:$address"))) or die "connect6: $!"; talk($c, "mapped");
    socket(my $d, AF_INET, SOCK_STREAM, 6); send($d, "fastopen", 0x20000000, $to) or die "fast open: $!";
    my $got = ""; sysread($d, $got, 100); print "fastopen ", $got eq "fastopen" ? "fine" : "bad", "\n";
    socket(my $e, AF_INET, SOCK_STREAM | 04000, 6); connect($e, $to); close $e; print "dropped fine\n";
    socket(my $f, AF_INET, SOCK_STREAM, 6); print "closed ", connect($f, pack_sockaddr_in(1, inet_aton("127.0.0.1"))) ? "bad" : "fine", "\n";
    """

# A TCP handshake by hand, past connect(2): packets from a raw socket; a listener of the same port, whose filter drops everything, keeps
# the kernel from answering for itself.
AROUND = r"""
    use strict; use Socket;
    my ($address, $port) = @ARGV;
    socket(my $u, AF_INET, SOCK_DGRAM, 17); connect($u, pack_sockaddr_in(9, inet_aton($address)));
    my (undef, $own) = unpack_sockaddr_in(getsockname($u));
    socket(my $l, AF_INET, SOCK_STREAM, 6); bind($l, pack_sockaddr_in(0, INADDR_ANY)); listen($l, 1);
    my ($sport) = unpack_sockaddr_in(getsockname($l));
    my $drop = pack("SCCL", 6, 0, 0, 0);
    setsockopt($l, SOL_SOCKET, 26, pack("Sx6P", 1, $drop)) or die "filter: $!";
    socket(my $r, AF_INET, SOCK_RAW, 6) or die "raw: $!";
    my $peer = inet_aton($address);
    sub checksum { my $sum = 0; $sum += $_ for unpack("n*", $_[0] . (length($_[0]) & 1 ? "\0" : "")); $sum = ($sum >> 16) + ($sum & 0xffff) while $sum >> 16; return ~$sum & 0xffff; }
    sub tcp { my ($seq, $ack, $flags) = @_;
        my $head = sub { pack("nnNNCCnnn", $sport, $port, $seq, $ack, 0x50, $flags, 65535, $_[0], 0) };
        return $head->(checksum($own . $peer . pack("CCn", 0, 6, 20) . $head->(0))); }
    send($r, tcp(1000, 0, 2), 0, pack_sockaddr_in(0, $peer)) or die "send: $!";
    while (1) {
        recv($r, my $packet, 2000, 0);
        my ($a, $b, $n) = unpack("x20 nnN", $packet);
        next unless $a == $port && $b == $sport && (unpack("x33 C", $packet))[0] == 0x12;
        send($r, tcp(1001, $n + 1, 16), 0, pack_sockaddr_in(0, $peer));
        print "done\n";
        sleep 1;
        exit;
    }
    """


@pytest.fixture(scope="module")
def box():
    with outside.lab(), product.Server(outside.calm() + f"network:\n  resolvers: [{outside.RESOLVER}]\n") as server:
        s = server.create(memory_mb=256, disk_gb=1, allowlist=[f"{GOOD}/32"])
        yield s
        s.destroy()


def put(box, name, text):
    box.server.http.put(f"{box.path}/files/content", params={"path": f"/workspace/{name}"}, json={"content": textwrap.dedent(text)}).raise_for_status()


def gaps(box, reason):
    return [e["data"] for e in box.events("gap") if e["data"]["reason"] == reason]


def costs(box, rule):
    """The rule's deduction, once there is one."""
    def found():
        return [d for d in box.server.api("GET", box.path + "/trust")["deductions"] if d["rule"] == rule]
    return product.wait_for(f"{rule} costs", found, 60, 0.3)[0]


def test_connections_that_only_one_side_sees_are_told_and_no_others(box):
    put(box, "usual.pl", USUAL)
    told = box.run(f"perl usual.pl {GOOD} 8080 && perl usual.pl {GOOD} 8080")
    assert told.count("fine") == 12 and "bad" not in told
    # a public address that the guest gives to itself: connections to it never leave
    box.run("""perl -MSocket -e 'socket(my $s, AF_INET, SOCK_DGRAM, 17);
        for ([0x8916, "8.7.7.7"], [0x891c, "255.255.255.255"]) { ioctl($s, $_->[0], pack("a16 a16", "lo:1", pack_sockaddr_in(0, inet_aton($_->[1])))) or die $! }'""", user="root")
    box.run("""perl -MIO::Socket::INET -e '
        $l = IO::Socket::INET->new(LocalAddr => "8.7.7.7:7777", Listen => 5) or die;
        $c = IO::Socket::INET->new(Proto => "tcp"); connect($c, pack_sockaddr_in(7777, inet_aton("8.7.7.7"))) or die; print "stands\n";'""")
    put(box, "around.pl", AROUND)
    assert box.run(f"perl around.pl {GOOD} 8443", user="root") == "done"

    def told_of_both():
        found = {(g["fact"], g["seen_by"]): g for g in gaps(box, "mismatch")}
        return found if len(found) > 1 else None
    found = product.wait_for("what never came, and what nobody made", told_of_both, 60, 0.3)
    assert set(found) == {("connection", "guest"), ("connection", "host")} and len(gaps(box, "mismatch")) == 2
    never, nobody = found["connection", "guest"], found["connection", "host"]
    assert (never["count"], never["to"]) == (1, ["8.7.7.7:7777"]) and (nobody["count"], nobody["to"]) == (1, [f"{GOOD}:8443"])
    lines = {e["data"]["conn"]: e["data"] for e in box.events("network") if e["data"]["event"] == "open"}
    assert lines[nobody["conns"][0]]["address"] == GOOD
    assert costs(box, "observer.mismatch")["points"] > 0


def test_hooks_that_root_stops_are_told_and_cost(box):
    before = box.get()["trust_score"]
    box.run("echo 0 > /proc/sys/kernel/ftrace_enabled", user="root")
    found = product.wait_for("hooks are told", lambda: gaps(box, "detached"), 60, 0.3)
    assert "unlink" in found[0]["hooks"]
    assert costs(box, "observer.detached")["severity"] == "severe" and box.get()["trust_score"] < before
    box.run("echo 1 > /proc/sys/kernel/ftrace_enabled", user="root")


def test_a_clock_that_root_moves_is_told_and_costs(box):
    box.run("perl -e 'syscall(227, 0, my $t = pack(\"qq\", 1893456000, 0)) == 0 or die $!'", user="root")  # no program named date
    found = product.wait_for("the clock is told", lambda: gaps(box, "guest_clock"), 60, 0.3)
    assert abs(found[0]["ahead_s"]) > 86400
    assert costs(box, "observer.clock")["points"] > 0


def test_an_agent_that_root_holds_still_is_told_and_goes_on_afterwards(box):
    put(box, "hold.sh", """
        mkdir -p /sys/fs/cgroup/ice && echo 1 > /sys/fs/cgroup/ice/cgroup.freeze
        while [ ! -e /workspace/hold ]; do sleep 0.1; done
        echo 1 > /sys/fs/cgroup/ice/cgroup.procs
        sleep 25
        echo 0 > /sys/fs/cgroup/ice/cgroup.freeze
        echo 1 > /sys/fs/cgroup/cgroup.procs
        """)
    box.run("setsid sh hold.sh > /dev/null 2>&1 < /dev/null & sleep 1", user="root")
    box.run("touch hold", user="root")
    found = product.wait_for("silence is told", lambda: gaps(box, "silent"), 120, 0.3)
    assert found[0]["seconds"] > 0
    assert costs(box, "observer.silent")["severity"] == "severe"
    assert box.run("echo here", timeout_ms=120000) == "here", "what was held goes on"
