"""QEMU, as whoever it runs, must be able to open the disks of guests; what keeps it out is named."""

from __future__ import annotations

from pathlib import Path

import pytest

host = pytest.importorskip("mallee.nc.drivers.libvirt.host", exc_type=ImportError)

CAPABILITIES = """<capabilities><host>
<secmodel><model>apparmor</model><doi>0</doi></secmodel>
<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>{}</baselabel>
<baselabel type='qemu'>{}</baselabel></secmodel></host></capabilities>"""


@pytest.mark.parametrize(
    ("mode", "label", "named"),
    [
        (0o711, "+64055:+64055", False),
        (0o700, "+64055:+64055", True),
        (0o700, "+0:+0", False),
        (0o700, "+64055:+{gid}", True),
        (0o710, "+64055:+{gid}", False),
        (0o700, "nobody at all", False),
    ],
)
def test_a_closed_folder_is_named(tmp_path: Path, mode: int, label: str, named: bool) -> None:
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_mode & 0o001 == 0:
            each.chmod(0o711)
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    label = label.format(gid=state.stat().st_gid)
    found = host.shut_out(CAPABILITIES.format(label, label), state / "guests" / "node-1")
    assert found == (str(state) if named else "")


def test_a_host_that_says_nothing_of_its_users_is_not_doubted(tmp_path: Path) -> None:
    assert host.shut_out("<capabilities/>", tmp_path) == ""
