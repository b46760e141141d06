"""The official files of KuaiRand: logs, users and videos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dualdnn.data.sources.delimited_table import LABEL, Column, TableFormat, parse_block
from dualdnn.data.sources.text_blocks import BlockReader, TextFile, texts_in
from dualdnn.errors import DataError

# What a user does with a video once it is shown: labels, never features of the same row.
FEEDBACK = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate",
            "long_view", "play_time_ms", "profile_stay_time", "comment_stay_time",
            "is_profile_enter")
STATISTICS = (
    "counts", "show_cnt", "show_user_num", "play_cnt", "play_user_num", "play_duration",
    "complete_play_cnt", "complete_play_user_num", "valid_play_cnt", "valid_play_user_num",
    "long_time_play_cnt", "long_time_play_user_num", "short_time_play_cnt",
    "short_time_play_user_num", "play_progress", "comment_stay_duration", "like_cnt",
    "like_user_num", "click_like_cnt", "double_click_cnt", "cancel_like_cnt",
    "cancel_like_user_num", "comment_cnt", "comment_user_num", "direct_comment_cnt",
    "reply_comment_cnt", "delete_comment_cnt", "delete_comment_user_num", "comment_like_cnt",
    "comment_like_user_num", "follow_cnt", "follow_user_num", "cancel_follow_cnt",
    "cancel_follow_user_num", "share_cnt", "share_user_num", "download_cnt", "download_user_num",
    "report_cnt", "report_user_num", "reduce_similar_cnt", "reduce_similar_user_num", "collect_cnt",
    "collect_user_num", "cancel_collect_cnt", "cancel_collect_user_num", "direct_comment_user_num",
    "reply_comment_user_num", "share_all_cnt", "share_all_user_num", "outsite_share_all_cnt",
)
# Milliseconds from 1990 to 2100: seconds would be a date in January 1970.
_TIME = Column(kind="whole", low=631_152_000_000, high=4_102_444_800_000, required=True)
_KEY = Column(kind="whole", low=0, required=True)
_ROUNDED, _TEXT, _LEFT_OUT = Column(kind="rounded"), Column(), Column(kept=False)
_AMOUNT = Column(kind="rounded", low=0)


def _csv(columns: dict[str, Column]) -> TableFormat:
    return TableFormat(columns=columns, separator=",", quoted=True)


LOG = _csv({
    "user_id": _KEY, "video_id": _KEY, "date": _LEFT_OUT, "hourmin": _LEFT_OUT, "time_ms": _TIME,
    **{name: _AMOUNT if name.endswith(("_ms", "_time")) else LABEL for name in FEEDBACK},
    "duration_ms": _AMOUNT, "is_rand": LABEL, "tab": _ROUNDED,
})
USERS = _csv({
    "user_id": _KEY, "user_active_degree": _TEXT,
    **dict.fromkeys(("is_lowactive_period", "is_live_streamer", "is_video_author"), _ROUNDED),
    **{name: column for what in ("follow_user_num", "fans_user_num", "friend_user_num",
                                 "register_days")
       for name, column in ((what, _ROUNDED), (f"{what}_range", _TEXT))},
    **dict.fromkeys((f"onehot_feat{i}" for i in range(18)), _ROUNDED),
})
VIDEOS = _csv({
    "video_id": _KEY, "author_id": _ROUNDED, "video_type": _TEXT, "upload_dt": _TEXT,
    "upload_type": _TEXT, "visible_status": _ROUNDED, "video_duration": _ROUNDED,
    "server_width": _ROUNDED, "server_height": _ROUNDED, "music_id": _ROUNDED,
    "music_type": _ROUNDED, "tag": _TEXT,
})


def statistics_format(wanted: Sequence[str]) -> TableFormat:
    """The layout of video_features_statistic, of which only `wanted` is kept."""
    return _csv({"video_id": _KEY,
                 **{name: Column(kind="decimal", kept=name in wanted) for name in STATISTICS}})


def renamed_statistics(described: Described) -> Described:
    """With `video_` before every name: users have a follow_user_num as well."""
    names = [f"video_{name}" for name in described.table.column_names]
    return replace(described, table=described.table.rename_columns(names))


_NAME = re.compile(r"(log_standard|log_random|user_features|video_features_basic|"
                   r"video_features_statistic)_(?:\w+_)??(pure|1k|27k)(?:_part[0-9]+)?\.csv")


@dataclass(frozen=True, kw_only=True)
class KuaiRandFiles:
    """The files of one version, by what they hold, each list in the order of the names."""

    log_standard: tuple[TextFile, ...]
    log_random: tuple[TextFile, ...]
    user_features: tuple[TextFile, ...]
    video_features_basic: tuple[TextFile, ...]
    video_features_statistic: tuple[TextFile, ...]


def kuairand_files(place: Path) -> tuple[str, KuaiRandFiles] | None:
    """The version (`pure`, `1k` or `27k`) and the files at a folder or zip archive.

    Args:
        place: the folder of the csv files, or the one above it, as the archives have it.

    Raises:
        DataError: `place` cannot be listed, or holds more than one version.
    """
    if not place.is_dir() and place.suffix != ".zip":
        return None
    texts = texts_in(place)
    if (place / "data").is_dir():
        texts = {**texts_in(place / "data"), **texts}
    kinds: dict[str, list[TextFile]] = {}
    versions = set()
    for name in sorted(texts):
        if found := _NAME.fullmatch(name):
            kinds.setdefault(found[1], []).append(texts[name])
            versions.add(found[2])
    if len(versions) > 1:
        raise DataError(f"{place} holds the versions {' and '.join(sorted(versions))} of KuaiRand; "
                        "expected one. Pass the folder of one.")
    if not {"log_standard", "user_features", "video_features_basic"} <= kinds.keys():
        return None
    return versions.pop(), KuaiRandFiles(**{
        kind: tuple(kinds.get(kind, ())) for kind in KuaiRandFiles.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Described:
    """A table whose rows are found by a key.

    Attributes:
        name: of the key.
        keys: (num_rows,) ascending.
        table: (num_rows, columns without the key).
    """

    name: str
    keys: npt.NDArray[np.int64]
    table: pa.Table

    def find(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The row of each of `keys`, shape (len(keys),); -1 where it is unknown."""
        rows = np.searchsorted(self.keys, keys)
        rows[rows == len(self.keys)] = 0
        return np.where(self.keys[rows] == keys, rows, -1)

    def take(self, rows: npt.NDArray[np.int64]) -> dict[str, pa.ChunkedArray]:
        """The columns at `rows`, nulls where a row is -1; text as plain strings."""
        found = self.table.take(pa.array(rows, mask=rows < 0))
        return {name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
                for name, column in zip(found.column_names, found.columns, strict=True)}


def read_described(files: Sequence[TextFile], form: TableFormat) -> Described:
    """Read a table whose first column names every row once.

    Args:
        files: its parts.
        form: their layout.

    Raises:
        DataError: a line is wrong, with file, line and reason; or a key occurs twice.
    """
    tables = []
    for file in files:
        for block in BlockReader(file, header=True):
            table = parse_block(block, form)
            # Few values, many rows: text takes a tenth of the memory this way.
            tables.append(pa.table({
                name: column.dictionary_encode() if pa.types.is_string(column.type) else column
                for name, column in zip(table.column_names, table.columns, strict=True)}))
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    name = table.column_names[0]
    table = table.take(pc.sort_indices(table[name]))
    keys = table[name].to_numpy()
    if (twice := np.flatnonzero(keys[1:] == keys[:-1])).size:
        raise DataError(f"{files[0]}: {name} {keys[twice[0]]} is described twice; expected once. "
                        "Use the original files.")
    return Described(name=name, keys=keys, table=table.drop_columns([name]))
