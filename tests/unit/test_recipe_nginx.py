"""The recipe of nginx, beside a Debian that is not built: where its site lies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "images" / "nginx" / "build"
SITE = """\
server {
	listen 80%s;
	root %s;
	index index.html;
}
"""
_DEBIAN = """\
set -eu
test "$2 $3" = "trixie nginx"
cd "$1"
mkdir -p etc/nginx/sites-available var/log/nginx
cp "$(dirname "$0")/site" etc/nginx/sites-available/default
"""


def built(folder: Path, root: str) -> subprocess.CompletedProcess[str]:
    for name in ("nginx", "debian", "target"):
        (folder / name).mkdir()
    shutil.copy(RECIPE, folder / "nginx" / "build")
    (folder / "debian" / "build").write_text(_DEBIAN)
    (folder / "debian" / "site").write_text(SITE % (" default_server", root))
    command = ["/bin/sh", str(folder / "nginx" / "build"), str(folder / "target"), "trixie"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_is_where_nginxs_own_image_has_it(tmp_path: Path) -> None:
    done = built(tmp_path, "/var/www/html")
    assert (done.returncode, done.stderr) == (0, "")
    site = tmp_path / "target" / "etc" / "nginx" / "sites-available" / "default"
    assert site.read_text() == SITE % ("", "/usr/share/nginx/html")
    log = tmp_path / "target" / "var" / "log" / "nginx" / "access.log"
    assert str(log.readlink()) == "/dev/stdout"


@pytest.mark.parametrize("root", ["/srv/www", "/usr/share/nginx/html/"])
def test_another_site_of_debians_is_an_error(tmp_path: Path, root: str) -> None:
    assert built(tmp_path, root).returncode != 0
