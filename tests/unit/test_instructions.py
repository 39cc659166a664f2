"""Instructions that change a configuration, as they stand in a Dockerfile."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.image.instructions import apply, expand, parse, words
from pycontain.model.container import HealthCheck, ImageConfig

BASE = ImageConfig(
    cmd=["old"], entrypoint=["entry"], env=["PATH=/bin", "A=a"], working_dir="/srv",
    labels={"kept": "1"}, volumes={"/v": {}}, exposed_ports={"80/tcp": {}},
)  # fmt: skip
SH = ["/bin/sh", "-c"]


def changed(*lines: str) -> dict[str, object]:
    """The fields that lines change."""
    made = apply(BASE, parse("\n".join(lines)))
    before, after = msgspec.structs.asdict(BASE), msgspec.structs.asdict(made)
    return {name: value for name, value in after.items() if value != before[name]}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('CMD ["a", "b c"]', {"cmd": ["a", "b c"]}),
        ("cmd a  b", {"cmd": [*SH, "a  b"]}),
        ("CMD []", {"cmd": []}),
        ("CMD [a]", {"cmd": [*SH, "[a]"]}),
        ('CMD ["a", 1]', {"cmd": [*SH, '["a", 1]']}),
        ("CMD echo $A 'x", {"cmd": [*SH, "echo $A 'x"]}),
        ('ENTRYPOINT ["/run"]', {"entrypoint": ["/run"], "cmd": None}),
        ("ENTRYPOINT exec top", {"entrypoint": [*SH, "exec top"], "cmd": None}),
        ("ENV B=b", {"env": ["PATH=/bin", "A=a", "B=b"]}),
        ("ENV A=", {"env": ["PATH=/bin", "A="]}),
        ("ENV PATH=$PATH:/more", {"env": ["PATH=/bin:/more", "A=a"]}),
        ('ENV A="x y" B=z\\ z C=\'$A\'',
         {"env": ["PATH=/bin", "A=x y", "B=z z", "C=$A"]}),
        ("ENV A=new B=$A", {"env": ["PATH=/bin", "A=new", "B=a"]}),
        ("ENV B some words  here", {"env": ["PATH=/bin", "A=a", "B=some words  here"]}),
        ("ENV B=${A}x C=${N:-d$A} D=${A:+s} E=${N:+s} F=${N}",
         {"env": ["PATH=/bin", "A=a", "B=ax", "C=da", "D=s", "E=", "F="]}),
        ('ENV B="\\$A \\x \\""', {"env": ["PATH=/bin", "A=a", 'B=$A \\x "']}),
        ("ENV B=$", {"env": ["PATH=/bin", "A=a", "B=$"]}),
        ("EXPOSE 80 53/udp", {"exposed_ports": {"80/tcp": {}, "53/udp": {}}}),
        ("EXPOSE 8000-8001/SCTP",
         {"exposed_ports": {"80/tcp": {}, "8000/sctp": {}, "8001/sctp": {}}}),
        ('LABEL a="b c" "d e"=f', {"labels": {"kept": "1", "a": "b c", "d e": "f"}}),
        ("LABEL kept 2", {"labels": {"kept": "2"}}),
        ("ONBUILD run make", {"on_build": ["RUN make"]}),
        ("ONBUILD COPY . /srv", {"on_build": ["COPY . /srv"]}),
        ("USER app:1", {"user": "app:1"}),
        ("USER $A", {"user": "a"}),
        ('VOLUME ["/a b", "/c"]', {"volumes": {"/v": {}, "/a b": {}, "/c": {}}}),
        ("VOLUME /a /c", {"volumes": {"/v": {}, "/a": {}, "/c": {}}}),
        ("WORKDIR sub/../x", {"working_dir": "/srv/x"}),
        ("WORKDIR /$A/b c", {"working_dir": "/a/b c"}),
        ("STOPSIGNAL SIGINT", {"stop_signal": "SIGINT"}),
        ('SHELL ["bash", "-ec"]', {"shell": ["bash", "-ec"]}),
        ("HEALTHCHECK NONE", {"healthcheck": HealthCheck(test=("NONE",))}),
        ("HEALTHCHECK cmd test -f /x",
         {"healthcheck": HealthCheck(test=("CMD-SHELL", "test -f /x"))}),
        ('HEALTHCHECK --interval=1m30s --retries=5  --timeout=0s CMD ["a", "b c"]',
         {"healthcheck": HealthCheck(test=("CMD", "a", "b c"), interval=90 * 10**9, retries=5)}),
        ("HEALTHCHECK --start-period=2s --start-interval=1ms CMD x",
         {"healthcheck": HealthCheck(
             test=("CMD-SHELL", "x"), start_period=2 * 10**9, start_interval=10**6)}),
    ],
)  # fmt: skip
def test_an_instruction(line: str, found: dict[str, object]) -> None:
    assert changed(line) == found


def test_several_in_order() -> None:
    assert changed("CMD x", "ENTRYPOINT y") == {"cmd": [*SH, "x"], "entrypoint": [*SH, "y"]}
    assert changed("WORKDIR a", "WORKDIR b") == {"working_dir": "/srv/a/b"}
    assert changed("ENV B=1", "ENV C=$B") == {"env": ["PATH=/bin", "A=a", "B=1", "C=1"]}
    assert changed('SHELL ["bash"]', "CMD x") == {"shell": ["bash"], "cmd": ["bash", "x"]}


def test_lines_go_on_and_comments_are_passed_over() -> None:
    text = "# first\n\nENV B=1 \\\n  # in between\n\n  C=2\nUSER \\\nme"
    assert [str(one) for one in parse(text)] == ["ENV B=1   C=2", "USER me"]
    assert parse("") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("RUN make", "only a build"),
        ("COPY a b", "only a build"),
        ("HEALTHCHECK NONE x", "stands alone"),
        ("HEALTHCHECK --retries=3 NONE", "stands alone"),
        ("HEALTHCHECK RUN x", "neither CMD nor NONE"),
        ("HEALTHCHECK CMD", "no command"),
        ("HEALTHCHECK CMD []", "no command"),
        ("HEALTHCHECK --retries=-1 CMD x", "from 0 on"),
        ("HEALTHCHECK --nosuch=1s CMD x", "no such option"),
        ("HEALTHCHECK --interval=1us CMD x", "less than 1ms"),
        ("HEALTHCHECK --timeout=soon CMD x", "duration"),
        ("NOSUCH x", "no such instruction"),
        ("CMD", "nothing follows"),
        ("ENV A", "no value"),
        ("ENV A=1 B", "not NAME=value"),
        ("ENV =1", "not NAME=value"),
        ("ENV A='x", "not closed"),
        ("ENV A=${B", "not"),
        ("ENV A=${B?x}", "not"),
        ("EXPOSE 0", "1 to 65535"),
        ("EXPOSE 90-80", "1 to 65535"),
        ("EXPOSE 80/icmp", "protocol"),
        ("EXPOSE x", "not a port"),
        ("EXPOSE 1-2-3", "not a port"),
        ("ONBUILD ONBUILD RUN x", "no trigger"),
        ("ONBUILD FROM x", "no trigger"),
        ("ONBUILD RUN", "nothing follows"),
        ("USER a b", "one word"),
        ("USER $N", "empty"),
        ("WORKDIR $N", "empty"),
        ('VOLUME [""]', "empty"),
        ("STOPSIGNAL nosuch", "nosuch"),
        ("SHELL bash", "not a list"),
    ],
)
def test_what_is_refused(line: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        changed(line)
    assert caught.value.message.startswith(line.split()[0])


@given(st.text(min_size=1))
def test_in_single_quotes_nothing_is_special(text: str) -> None:
    text = text.replace("'", "")
    assert expand(f"'{text}'", {}) == text


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs", "Z")), min_size=1)))
def test_escaped_letters_are_themselves(texts: list[str]) -> None:
    line = " ".join("".join(f"\\{letter}" for letter in text) for text in texts)
    assert [expand(word, {}) for word in words(line)] == texts


@given(st.text())
def test_any_line_is_understood_or_refused(text: str) -> None:
    for name in ("ENV", "LABEL", "EXPOSE", "WORKDIR", "USER", "VOLUME", "CMD", "ONBUILD"):
        try:
            apply(BASE, parse(f"{name} {text}"))
        except InvalidInput:
            continue
