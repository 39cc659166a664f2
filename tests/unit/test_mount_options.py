"""How an overlay is asked for: which way a kernel has, and what it is told, by value."""

from __future__ import annotations

import pytest

from pycontain.errors import KernelError
from pycontain.kernel import mount

UPPER: list[mount.Option] = [("upperdir", "/s/upper"), ("workdir", "/s/work")]
LONG = "/" + "x" * 255


@pytest.mark.parametrize(
    ("layers", "options", "kernel", "one_by_one"),
    [
        (["/a", "/b"], UPPER, (6, 5), True),
        (["/a", "/b"], UPPER, (7, 0), True),
        (["/a", "/b"], UPPER, (6, 4), False),
        (["/a"], UPPER, (6, 1), False),
        (["/a", LONG[:255]], UPPER, (6, 18), True),
        (["/a", LONG], UPPER, (6, 18), False),
        (["/a"], [("upperdir", LONG), ("workdir", "/w")], (6, 18), False),
        (["/a"], [("upperdir", "/" + "ü" * 128), ("workdir", "/w")], (6, 18), False),
        (["/a"], [("userxattr", None)], (6, 18), True),
    ],
)
def test_layers_are_given_one_by_one_where_the_kernel_takes_them(
    layers: list[str], options: list[mount.Option], kernel: tuple[int, int], one_by_one: bool
) -> None:
    assert mount.takes_one_by_one(layers, options, kernel) is one_by_one


def test_a_page_names_layers_by_number() -> None:
    options: list[mount.Option] = [*UPPER, ("index", "off"), ("userxattr", None)]
    assert mount.page(3, options) == (
        b"lowerdir=1:2:3,upperdir=/s/upper,workdir=/s/work,index=off,userxattr"
    )


def test_a_page_without_options() -> None:
    assert mount.page(2, []) == b"lowerdir=1:2"


def test_what_separates_options_and_layers_is_quoted_in_paths() -> None:
    path = mount.quoted("/a,b:c\\d=e ü")
    assert path == "/a\\,b\\:c\\\\d=e ü"
    assert mount.page(1, [("upperdir", path)]) == f"lowerdir=1,upperdir={path}".encode()


def test_as_many_layers_as_overlayfs_stacks_fit_on_a_page() -> None:
    paths: list[mount.Option] = [("upperdir", "/" + "u" * 900), ("workdir", "/" + "w" * 900)]
    text = mount.page(500, paths)
    assert text.startswith(b"lowerdir=1:2:")
    assert b":500,upperdir=" in text


@pytest.mark.parametrize(
    ("layers", "options"), [(501, UPPER), (1, [("upperdir", "/" + "x" * 4096)])]
)
def test_more_than_the_kernel_takes_is_refused(layers: int, options: list[mount.Option]) -> None:
    with pytest.raises(KernelError, match="argument list too long") as caught:
        mount.page(layers, options)
    assert caught.value.subject == f"{layers} layers"
    assert "500 layers" in (caught.value.hint or "")


def test_a_page_is_full_at_its_last_byte() -> None:
    """Of what is longer the kernel would take the beginning, mount(2)."""
    room = 4095 - len(mount.page(1, [("upperdir", "")]))
    assert len(mount.page(1, [("upperdir", "x" * room)])) == 4095
    with pytest.raises(KernelError):
        mount.page(1, [("upperdir", "x" * (room + 1))])
