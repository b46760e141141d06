import bz2
import gzip
import hashlib
import zipfile
from pathlib import Path

import pytest

from dualdnn.data.sources.text_blocks import BlockReader, TextFile, text_sha256, texts_in
from dualdnn.errors import DataError

TEXT = "".join(f"line {i} {'é' * (i % 7)}\n" for i in range(3000)).encode()


def stored(folder: Path, how: str, text: bytes = TEXT) -> TextFile:
    path = folder / {"plain": "a.txt", "gz": "a.txt.gz", "bz2": "a.txt.bz2", "zip": "a.zip"}[how]
    if how == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("deep/a.txt", text)
        return TextFile(path=path, member="deep/a.txt")
    pack = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress}[how]
    path.write_bytes(pack(text))
    return TextFile(path=path)


def blocks_of(file, block_bytes=4096, header=False):
    return list(BlockReader(file, header=header, block_bytes=block_bytes))


@pytest.mark.parametrize("how", ["plain", "gz", "bz2", "zip"])
def test_blocks_are_the_same_whatever_the_compression(tmp_path, how):
    reader = BlockReader(stored(tmp_path, how), header=False, block_bytes=4096, md5=True)
    blocks = list(reader)
    assert b"".join(block.data for block in blocks) == TEXT
    assert [block.data for block in blocks] == [
        block.data for block in blocks_of(stored(tmp_path, "plain"))]
    assert len(blocks) > 5
    line = 1
    for block in blocks:
        assert len(block.data) <= 4096
        assert (block.first_line, block.first_row, block.lines) == (
            line, line - 1, block.data.count(b"\n"))
        line += block.lines
    assert line == 3001
    assert reader.digest("sha256") == hashlib.sha256(TEXT).hexdigest() == text_sha256(reader.file)
    assert reader.digest("md5") == hashlib.md5(TEXT).hexdigest()
    assert reader.done_bytes == reader.total_bytes > 0
    assert reader.file.name == "a.txt"


def test_a_header_is_no_row_and_a_byte_order_mark_no_name(tmp_path):
    file = stored(tmp_path, "plain", b'\xef\xbb\xbfid,"a,b"\r\n1,2\r\n3,4\r\n')
    (block,) = blocks_of(file, header=True)
    assert block.header == ("id", "a,b")
    assert (block.data, block.first_line, block.first_row) == (b"1,2\r\n3,4\r\n", 2, 0)


def test_the_header_may_fill_a_block(tmp_path):
    blocks = blocks_of(stored(tmp_path, "plain", b"name\n1234\n5678\n"), block_bytes=6, header=True)
    assert [(b.data, b.first_line, b.first_row) for b in blocks] == [
        (b"1234\n", 2, 0), (b"5678\n", 3, 1)]


@pytest.mark.parametrize("how", ["gz", "bz2"])
def test_a_truncated_file_ends_with_file_line_and_reason(tmp_path, how):
    file = stored(tmp_path, how)
    data = file.path.read_bytes()
    file.path.write_bytes(data[:-20])
    with pytest.raises(DataError, match=rf"a\.txt\.{how}, line \d+.*cut off or damaged: Compressed "
                                        r"file ended before.*Get it again"):
        blocks_of(file)
    with pytest.raises(DataError, match="cut off or damaged"):
        text_sha256(file)


@pytest.mark.parametrize("how", ["gz", "bz2", "zip"])
def test_a_flipped_byte_is_found(tmp_path, how):
    file = stored(tmp_path, how)
    data = bytearray(file.path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        blocks_of(file)


def test_a_last_line_without_its_end_looks_cut_off(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt, line 3: .*end of the file inside one"):
        blocks_of(stored(tmp_path, "plain", b"a\nb\nc"))


def test_an_endless_line_does_not_fill_the_memory(tmp_path):
    with pytest.raises(DataError, match="line 2: expected lines shorter than 64 bytes"):
        blocks_of(stored(tmp_path, "plain", b"a\n" + b"b" * 200 + b"\n"), block_bytes=64)


@pytest.mark.parametrize(("text", "header"), [(b"", False), (b"", True), (b"a,b\n", True)])
def test_a_file_without_rows_is_refused(tmp_path, text, header):
    with pytest.raises(DataError, match="holds no rows"):
        blocks_of(stored(tmp_path, "plain", text), header=header)


def test_what_is_no_zip_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no")
    with pytest.raises(DataError, match=r"a\.zip cannot be read: File is not a zip file"):
        texts_in(tmp_path / "a.zip")


def test_texts_are_found_by_their_plain_names_plain_ones_first(tmp_path):
    for name in ("day_0.gz", "day_1.bz2", "train.csv", "train.csv.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    found = texts_in(tmp_path)
    assert {name: file.path.name for name, file in found.items()} == {
        "day_0": "day_0.gz", "day_1": "day_1.bz2", "train.csv": "train.csv"}
    assert list(texts_in(stored(tmp_path, "zip").path)) == ["a.txt"]
