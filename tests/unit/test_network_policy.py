"""Whose chains drop what is forwarded, by what nft lists."""

from __future__ import annotations

from pycontain.network import policy

LISTING = """\
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain DOCKER {
	}
}
table inet mine {
	chain fwd {
		type filter hook forward priority 10; policy accept;
	}
}
table inet other {
	chain through {
		type filter hook forward priority filter + 10; policy drop;
	}
}
"""


def test_chains_that_drop() -> None:
    assert policy.dropping(LISTING) == [
        ("ip", "filter", "FORWARD"),
        ("inet", "other", "through"),
    ]
    assert policy.dropping("") == []
