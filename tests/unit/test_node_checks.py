"""Journal, host settings and preflight without a kernel."""

from __future__ import annotations

import json

import pytest

from vpp_operator.node import hostsettings, preflight
from vpp_operator.node.journal import Entry, Journal


def test_journal_keeps_the_older_original_and_survives_a_reader(tmp_path):
    path = tmp_path / "run" / "journal.json"
    journal = Journal(path)
    with journal.locked():
        journal.record(Entry("setting", "a", "0"))
        journal.record(Entry("setting", "a", "1"))
        journal.record(Entry("link", "vpp0"))
    assert Journal(path).entries() == (Entry("setting", "a", "0"), Entry("link", "vpp0"))
    with journal.locked():
        journal.keep("setting")
        journal.forget(Entry("setting", "a"))
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2, "made": []}', '{"version": 1}', '{"version":1,"made":[1]}']
)
def test_a_damaged_journal_counts_as_empty(tmp_path, text):
    path = tmp_path / "journal.json"
    path.write_text(text)
    assert Journal(path).entries() == ()


@pytest.fixture
def sysctls(tmp_path):
    root = tmp_path / "net"
    for name, value in {
        "ipv4/ip_forward": "0",
        "ipv4/ip_local_reserved_ports": "40000",
        "ipv4/ip_local_port_range": "32768\t65000",
        "ipv6/conf/all/forwarding": "0",
        "ipv6/conf/eth0/accept_ra": "1",
        "ipv6/conf/eth1/accept_ra": "0",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(value + "\n")
    return root


def values(root):
    return {str(f.relative_to(root)): f.read_text().strip() for f in root.rglob("*") if f.is_file()}


RANGES = ((10000, 10009), (61000, 65535))


def test_settings_are_set_once_and_given_back(tmp_path, sysctls):
    before = values(sysctls)
    journal = tmp_path / "journal.json"
    assert [f.reason for f in hostsettings.check(RANGES, root=sysctls)] == ["HostSettingDiffers"] * 3
    assert len(hostsettings.apply(RANGES, journal, sysctls)) == 4
    assert hostsettings.apply(RANGES, journal, sysctls) == []
    assert hostsettings.check(RANGES, root=sysctls) == []
    now = values(sysctls)
    assert now["ipv4/ip_local_reserved_ports"] == "10000-10009,40000,61000-65535"
    assert now["ipv6/conf/eth0/accept_ra"] == "2"
    assert now["ipv6/conf/eth1/accept_ra"] == "0"
    assert len(hostsettings.restore(journal, sysctls)) == 4
    assert values(sysctls) == before
    assert not journal.exists()


def test_a_setting_changed_by_others_meanwhile_stays(tmp_path, sysctls):
    journal = tmp_path / "journal.json"
    hostsettings.apply(RANGES, journal, sysctls)
    (sysctls / "ipv6/conf/eth0/accept_ra").write_text("0\n")
    hostsettings.restore(journal, sysctls)
    assert values(sysctls)["ipv6/conf/eth0/accept_ra"] == "0"


def test_bad_source_ports_are_named(capsys, tmp_path):
    arguments = [f"--journal={tmp_path / 'journal.json'}"]
    assert hostsettings.main(arguments, {"SOURCE_PORTS": "10000-x"}) == 2
    assert "SOURCE_PORTS: '10000-x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rules", "condition"),
    [
        ("-A KUBE-SERVICES -j KUBE-SVC-NPX46M4PTMTKRN6Y", "OtherProxyPresent"),
        ("table ip kube-proxy {\n", "OtherProxyPresent"),
        ("-N cali-FORWARD", "NetworkPolicyLimited"),
        (
            "table inet firewalld {\n chain f {\n type filter hook forward priority 10; policy drop;",
            "Degraded",
        ),
    ],
)
def test_rules_of_others_are_recognised(rules, condition):
    (finding,) = preflight.findings_from_ruleset(rules)
    assert finding.condition == condition
    assert finding.message and finding.remedy


@pytest.mark.parametrize(
    "rules",
    [
        "",
        ":KUBE-FIREWALL - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SERVICES - [0:0]",
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;",
    ],
)
def test_what_is_left_over_or_handled_is_no_finding(rules):
    assert preflight.findings_from_ruleset(rules) == []


def test_listeners():
    tcp = """  sl  local_address rem_address   st
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:C000 0100007F:1F90 01 00000000:00000000
"""
    udp = """  sl  local_address rem_address   st
   0: 00000000:0035 00000000:0000 07 00000000:00000000
   1: 0100007F:C001 0100007F:0035 01 00000000:00000000
"""
    assert preflight.listeners(tcp, "tcp") == {8080}
    assert preflight.listeners(udp, "udp") == {53}


def test_preflight_without_any_tool_reports_and_does_not_crash(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = tmp_path / "preflight.json"
    assert preflight.main([f"--result={result}"]) == 0
    messages = [f["message"] for f in json.loads(result.read_text())["findings"]]
    assert "nft is not installed" in messages
    assert "iptables is not installed" in messages
