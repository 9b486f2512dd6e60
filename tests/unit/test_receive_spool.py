"""The spool: each file whole and durable, or not there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

from service.errors import OutOfSpace, Reason
from service.receive.header import read_file_header
from service.receive.part import BUFFER_BYTES
from service.receive.spool import Spool
from service.store.process import this_process
from tests import builders
from tests.peers import Raw


def put(spool: Spool, raw: Raw):
    return spool.write(raw.data, raw.sop_class_uid, raw.sop_instance_uid, raw.transfer_syntax_uid)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_the_data_set_is_kept_byte_for_byte_behind_a_preamble_of_zeros(spool: Spool):
    raw = Raw.of(builders.ct_series(slices=1)[0])
    spooled = put(spool, raw)
    content = spool.locate(spooled.path).read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    assert content.endswith(raw.data)
    assert (spooled.sha256, spooled.size_bytes) == (hashlib.sha256(raw.data).hexdigest(), len(raw.data))


def test_the_file_is_a_dicom_file_that_others_read(spool: Spool):
    made = builders.ct_series(slices=1)[0]
    spooled = put(spool, Raw.of(made))
    again = pydicom.dcmread(spool.locate(spooled.path))
    assert again.PixelData == made.PixelData
    assert again.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
    assert again.file_meta.TransferSyntaxUID == made.file_meta.TransferSyntaxUID
    assert read_file_header(spool.locate(spooled.path)).sop_instance_uid == made.SOPInstanceUID


def test_names_hold_no_text_of_a_peer(spool: Spool):
    made = builders.ct_series(slices=1)[0]
    path = put(spool, Raw.of(made)).path
    assert str(made.SOPInstanceUID) not in path
    assert set(path.removesuffix(".dcm")) <= set("0123456789abcdef/")
    assert list(spool.files()) == [path]


def test_until_it_is_committed_a_file_is_not_there(spool: Spool):
    raw = Raw.of(builders.radiograph())
    with spool.begin(raw.sop_class_uid, raw.sop_instance_uid, raw.transfer_syntax_uid) as part:
        data = raw.data + bytes(BUFFER_BYTES)
        part.write(data)
        assert list(spool.files()) == []
        assert len(list(spool.root.rglob("*.part"))) == 1
        part.commit()
        spooled = part.spooled()
    assert list(spool.files()) == [spooled.path]
    assert list(spool.root.rglob("*.part")) == []
    assert spooled.sha256 == hashlib.sha256(data).hexdigest()


def test_a_part_that_is_given_up_leaves_nothing(spool: Spool):
    raw = Raw.of(builders.radiograph())
    with pytest.raises(KeyError), \
            spool.begin(raw.sop_class_uid, raw.sop_instance_uid, raw.transfer_syntax_uid) as part:
        part.write(raw.data[:1000])
        raise KeyError
    assert [p for p in spool.root.rglob("*") if p.is_file()] == []


def test_leftovers_of_an_earlier_process_are_removed_and_whole_files_kept(spool: Spool):
    kept = put(spool, Raw.of(builders.radiograph()))
    left = spool.root / "ab" / ("ab" + "0" * 30 + ".part")
    left.write_bytes(b"half")
    assert spool.remove_leftovers() == 1
    assert not left.exists()
    assert list(spool.files()) == [kept.path]


def test_what_another_process_is_writing_stays(spool: Spool, tmp_path: Path):
    raw = Raw.of(builders.radiograph())
    left = {owner: spool.root / "ab" / f"ab{number:030}.{owner}.part" for number, owner in enumerate(
        (this_process(), f"{this_process()}1", "elsewhere:7:7", "elsewhere:8:8"))}
    for file in left.values():
        file.write_bytes(b"half")
    os.utime(left["elsewhere:8:8"], (0, time.time() - 3700))
    with spool.begin(raw.sop_class_uid, raw.sop_instance_uid, raw.transfer_syntax_uid) as part:
        part.write(raw.data[:1000])
        assert Spool(spool.root).remove_leftovers() == 2
        part.write(raw.data[1000:])
        part.commit()
    assert [owner for owner, file in left.items() if file.exists()] == [this_process(), "elsewhere:7:7"]
    assert len(list(spool.files())) == 1


def test_too_little_free_space_is_out_of_space(tmp_path: Path):
    spool = Spool(tmp_path / "spool", min_free_bytes=1 << 62)
    with pytest.raises(OutOfSpace) as refused:
        put(spool, Raw.of(builders.radiograph()))
    assert refused.value.reason is Reason.OUT_OF_SPACE
    assert refused.value.dimse_status == 0xA700
    assert [p for p in spool.root.rglob("*") if p.is_file()] == []


def test_a_disk_that_fills_up_while_writing_is_out_of_space_and_leaves_nothing(tmp_path: Path):
    """The limit of file size gives a real EFBIG from the kernel in the middle of the file."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from service.errors import OutOfSpace\n"
        "from service.receive.spool import Spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    spool.write(bytes(100000), '1.2', '1.3', '1.2.840.10008.1.2')\n"
        "except OutOfSpace:\n"
        "    print('out of space')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "out of space\n"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_no_space_left_on_the_device_is_out_of_space(spool: Spool):
    raw = Raw.of(builders.radiograph())
    with pytest.raises(OutOfSpace), \
            spool.begin(raw.sop_class_uid, raw.sop_instance_uid, raw.transfer_syntax_uid) as part:
        part.write(raw.data)
        file = part._chosen()
        file.put_rest(memoryview(b"begun"), 5, 0)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file.descriptor)
        os.close(full)
        part.commit()
    assert list(spool.root.rglob("*.part")) == []


def test_a_file_set_aside_is_no_longer_among_the_images(spool: Spool):
    spooled = put(spool, Raw.of(builders.radiograph()))
    content = spool.locate(spooled.path).read_bytes()
    aside = spool.quarantine(spooled.path)
    assert list(spool.files()) == []
    assert aside.startswith("quarantine/")
    assert spool.locate(aside).read_bytes() == content


def test_a_discarded_file_is_gone_and_discarding_again_is_no_error(spool: Spool):
    spooled = put(spool, Raw.of(builders.radiograph()))
    spool.discard(spooled.path)
    spool.discard(spooled.path)
    assert list(spool.files()) == []


def test_a_spool_opened_again_holds_what_it_held(spool: Spool):
    spooled = put(spool, Raw.of(builders.radiograph()))
    assert list(Spool(spool.root).files()) == [spooled.path]
    assert spool.free_bytes() > 0
