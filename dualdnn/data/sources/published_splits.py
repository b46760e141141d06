"""The published splits of Criteo and Avazu: train.csv, valid.csv and test.csv.

BARS (Zhu et al., BARS-CTR: Open Benchmarking for Click-Through Rate Prediction, CIKM 2021) offers
them at https://huggingface.co/datasets/reczoo, with the md5 of every file.
"""

from __future__ import annotations

from pathlib import Path

from dualdnn.data.sources.text_blocks import TextFile, texts_in

PART_OF = {"train.csv": "train", "valid.csv": "valid", "test.csv": "test"}
# Release → file → md5 of its text.
MD5 = {
    "criteo_x1": {"train.csv": "30b89c1c7213013b92df52ec44f52dc5",
                  "valid.csv": "f73c71fb3c4f66b6ebdfa032646bea72",
                  "test.csv": "2c48b26e84c04a69b948082edae46f8c"},
    "criteo_x4": {"train.csv": "4a53bb7cbc0e4ee25f9d6a73ed824b1a",
                  "valid.csv": "fba5428b22895016e790e2dec623cb56",
                  "test.csv": "cfc37da0d75c4d2d8778e76997df2976"},
    "avazu_x1": {"train.csv": "f1114a07aea9e996842c71648e0f6395",
                 "valid.csv": "d9568f246357d156c4b8030fadb8b623",
                 "test.csv": "9e2fe9c48705c9315ae7a0953eb57acf"},
    "avazu_x4": {"train.csv": "de3a27264cdabf66adf09df82328ccaa",
                 "valid.csv": "33232931d84d6452d3f956e936cab2c9",
                 "test.csv": "3ebb774a9ca74d05919b84a3d402986d"},
}


def split_files(place: Path) -> list[TextFile] | None:
    """The three files in a folder or a zip archive, in the order of `PART_OF`; None without all.

    Raises:
        DataError: `place` cannot be listed.
    """
    texts = texts_in(place)
    return [texts[name] for name in PART_OF] if PART_OF.keys() <= texts.keys() else None


def release_mistakes(release: str | None, *, known: tuple[str, ...], is_split: bool) -> list[str]:
    """What is wrong with the choice of a published release, one sentence each.

    Args:
        release: its name, or None to verify nothing.
        known: the names for this data set.
        is_split: whether the raw files are the three of a split.
    """
    if release is None:
        return []
    if release not in known:
        return [f"data.source.release must be null or one of {', '.join(known)}, got "
                f"{release!r}."]
    if not is_split:
        return [f"data.source.release={release} asks to verify {', '.join(PART_OF)}, but data.raw "
                "holds other files. Pass the folder or zip with the three, or release=null."]
    return []
