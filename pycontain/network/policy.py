"""Other people's firewalls: whether one of them lets nothing through that it was not told of.

A packet has to be accepted by every table it meets (nft(8), "verdict statements"): what ours
accepts, another may still drop. docker sets the policy of iptables' FORWARD chain to drop, and so
do ufw and many hand-written rules. Their tables are theirs; all we do is to say so.
"""

from __future__ import annotations

import os

from pycontain.kernel import firewall

_OURS = "pycontain"
_DEVICES = "pyc+"  # iptables' way to write all of our bridges, the default one's too
_LEGACY = ("/usr/sbin/iptables-legacy", "/sbin/iptables-legacy", "/usr/sbin/iptables")
_LEGACY_TABLES = "/proc/net/ip_tables_names"


class Obstacle:
    """A chain that drops what is forwarded, unless told otherwise.

    Attributes:
        chain: where, in words.
        remedy: commands that let our networks through; they last until the next boot.
    """

    __slots__ = ("chain", "remedy")

    def __init__(self, chain: str, remedy: str) -> None:
        self.chain = chain
        self.remedy = remedy


def obstacles() -> list[Obstacle]:
    """Return the chains of this host in whose way packets of our networks would be.

    Raises:
        ScriptFailed, NotSupported: nft cannot tell.
    """
    found = []
    for family, table, chain in dropping(firewall.listing(["list", "chains"])):
        if table.startswith(_OURS) or family not in ("ip", "inet"):
            continue
        rules = firewall.listing(["list", "chain", family, table, chain])
        if '"pyc' not in rules:
            found.append(Obstacle(f"{family} {table} {chain}", _remedy(family, table, chain)))
    return found + _legacy()


def dropping(listing: str) -> list[tuple[str, str, str]]:
    """Return family, table and name of the chains that drop what is forwarded.

    Args:
        listing: what ``nft list chains`` writes.
    """
    found = []
    family = table = chain = ""
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["table"] and len(words) > 2:
            family, table = words[1], words[2]
        elif words[:1] == ["chain"] and len(words) > 1:
            chain = words[1]
        elif "hook forward" in line and "policy drop" in line:
            found.append((family, table, chain))
    return found


def _remedy(family: str, table: str, chain: str) -> str:
    if (family, table, chain) == ("ip", "filter", "FORWARD"):
        return _of_iptables("iptables")
    return " && ".join(
        f"nft insert rule {family} {table} {chain} {way} 'pyc*' accept"
        for way in ("iifname", "oifname")
    )


def _of_iptables(program: str) -> str:
    return " && ".join(f"{program} -I FORWARD {way} {_DEVICES} -j ACCEPT" for way in ("-i", "-o"))


def _legacy() -> list[Obstacle]:
    """The same of the older iptables, whose rules nft does not see."""
    try:
        with open(_LEGACY_TABLES, encoding="ascii") as file:
            tables = file.read().split()
    except FileNotFoundError:
        return []
    program = next((path for path in _LEGACY if os.access(path, os.X_OK)), "")
    if "filter" not in tables or not program:
        return []
    said, code = firewall.run([program, "-S", "FORWARD"], b"")
    if code != 0 or "-P FORWARD DROP" not in said or " pyc" in said:
        return []
    return [Obstacle("iptables FORWARD", _of_iptables(os.path.basename(program)))]
