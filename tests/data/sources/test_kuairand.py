import csv
import datetime
import gzip
import io
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from dualdnn.data.lake import Lake
from dualdnn.data.sources.kuairand import KuaiRand
from dualdnn.data.sources.kuairand_files import FEEDBACK, STATISTICS, kuairand_files
from dualdnn.errors import ConfigError, DataError
from dualdnn.schema import schema_from_dict

LOG = ["user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow",
       "is_comment", "is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms",
       "profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand", "tab"]
RANGES = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USERS = ["user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer",
         "is_video_author", *(f"{n}{s}" for n in RANGES for s in ("", "_range")),
         *(f"onehot_feat{i}" for i in range(18))]
VIDEOS = ["video_id", "author_id", "video_type", "upload_dt", "upload_type", "visible_status",
          "video_duration", "server_width", "server_height", "music_id", "music_type", "tag"]
BEIJING = datetime.timezone(datetime.timedelta(hours=8))
START = 1_649_347_200_000  # 2022-04-08 00:00 in Beijing


def text_of(header, rows, ends="\n"):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def a_day_off(milliseconds):
    """No rows on the third day (UTC)."""
    return milliseconds // 86_400_000 == 1_649_462_400 // 86_400


def log_of(seed, rows, is_rand=0):
    rng = random.Random(seed)
    found = []
    while len(found) < rows:
        moment = START + rng.randrange(5 * 86_400_000)
        if a_day_off(moment):
            continue
        found.append({
            "user_id": rng.randrange(50), "video_id": rng.randrange(99) * 10, "date": 20220408,
            "hourmin": 400, "time_ms": moment,
            **{name: rng.randrange(2) for name in FEEDBACK},
            "play_time_ms": rng.randrange(10**5), "duration_ms": rng.choice([104400, "9000.0", ""]),
            "profile_stay_time": 0, "comment_stay_time": rng.randrange(9), "is_rand": is_rand,
            "tab": rng.randrange(15)})
    return sorted(found, key=lambda row: row["user_id"])


def users():
    rng = random.Random("users")
    return [{"user_id": user, "user_active_degree": rng.choice(["full_active", "UNKNOWN"]),
             "is_lowactive_period": 0, "is_live_streamer": rng.choice([0, -124]),
             "is_video_author": 1,
             **{name: rng.randrange(999) for name in RANGES},
             **{f"{name}_range": rng.choice(["0", "(0,10]", "500+"]) for name in RANGES},
             **{f"onehot_feat{i}": rng.choice(["", "1.0", 0]) for i in range(18)}}
            for user in rng.sample(range(49), 49)]


def videos():
    rng = random.Random("videos")
    return [{"video_id": video * 10, "author_id": rng.randrange(10**6),
             "video_type": rng.choice(["NORMAL", "AD"]), "upload_dt": "2020-07-08",
             "upload_type": "ShortImport", "visible_status": rng.choice(["0.0", "1.0"]),
             "video_duration": rng.choice(["17200.0", ""]), "server_width": "720.0",
             "server_height": "1280.0", "music_id": rng.choice([9_155_697_141, ""]),
             "music_type": rng.choice(["9.0", ""]), "tag": rng.choice(["12,65", "3", ""])}
            for video in rng.sample(range(99), 99)]


def write(folder: Path, suffix="pure", ends="\n", pack=None):
    folder.mkdir(parents=True, exist_ok=True)
    logs = {f"log_standard_4_08_to_4_21_{suffix}": log_of(1, 3000),
            f"log_standard_4_22_to_5_08_{suffix}": log_of(2, 2500),
            f"log_random_4_22_to_5_08_{suffix}": log_of(3, 500, is_rand=1)}
    for name, rows in logs.items():
        text = text_of(LOG, rows, ends).encode()
        if pack:
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text))
        else:
            (folder / f"{name}.csv").write_bytes(text)
    (folder / f"user_features_{suffix}.csv").write_text(text_of(USERS, users(), ends))
    (folder / f"video_features_basic_{suffix}.csv").write_text(text_of(VIDEOS, videos(), ends))
    statistics = [{"video_id": video * 10, **{name: f"{video + i}.5" for i, name in
                                              enumerate(STATISTICS)}} for video in range(99)]
    (folder / f"video_features_statistic_{suffix}.csv").write_text(
        text_of(["video_id", *STATISTICS], statistics))
    return list(logs.values())


def number(cell):
    return None if cell == "" else int(float(cell))


TEXTS = {"user_active_degree", *(f"{name}_range" for name in RANGES), "video_type", "upload_dt",
         "upload_type"}


def expected(rows):
    """day → rows by plain Python, in the order of the files."""
    of_user = {row["user_id"]: row for row in users()}
    of_video = {row["video_id"]: row for row in videos()}
    days = {}
    for row in rows:
        joined = {name: number(value) for name, value in row.items()
                  if name not in ("date", "hourmin", "time_ms")}
        for key, names, table in (("user_id", USERS, of_user), ("video_id", VIDEOS, of_video)):
            described = table.get(row[key], dict.fromkeys(names, ""))
            for name in names[1:]:
                value = described[name]
                joined[name] = (value or None) if name in TEXTS else (
                    (value.split(",") if value else None) if name == "tag" else number(value))
        second = row["time_ms"] // 1000
        local = datetime.datetime.fromtimestamp(second, BEIJING)
        joined |= {"timestamp": second, "hour": local.hour, "weekday": local.weekday(),
                   "watch_weight": max(row["play_time_ms"] / 1000, 1) if row["is_click"] else 1.0}
        day = str(datetime.datetime.fromtimestamp(second, datetime.UTC).date())
        days.setdefault(day, []).append(joined)
    return dict(sorted(days.items()))


def prepare(raw, lake, **options):
    KuaiRand(raw=str(raw), **{"block_bytes": 2**16, **options}).prepare(lake)
    return {folder.name[3:]: [row for file in sorted(folder.glob("*.parquet"))
                              for row in pq.ParquetFile(file).read().to_pylist()]
            for folder in sorted(lake.glob("dt=*"))}


@pytest.mark.parametrize(("ends", "pack"), [("\n", None), ("\r\n", "gz")])
def test_the_joined_log_row_by_row(tmp_path, ends, pack):
    first, second, _ = write(tmp_path / "KuaiRand-Pure" / "data", ends=ends, pack=pack)
    days = prepare(tmp_path / "KuaiRand-Pure", tmp_path / "lake")
    assert days == expected(first + second)
    assert "2022-04-09" not in days
    assert len(days) == 5


def test_random_logs_and_statistics_by_choice(tmp_path):
    logs = write(tmp_path / "raw", suffix="1k")
    days = prepare(tmp_path / "raw", tmp_path / "lake", logs=("standard", "random"),
                   statistics=("play_progress", "follow_user_num"))
    read = [row for rows in days.values() for row in rows]
    assert len(read) == 6000
    assert sum(row["is_rand"] for row in read) == 500
    for row in read:
        video = row["video_id"] // 10
        assert row.pop("video_play_progress") == video + STATISTICS.index("play_progress") + 0.5
        assert row.pop("video_follow_user_num") == video + STATISTICS.index("follow_user_num") + 0.5
    assert days == expected(logs[0] + logs[1] + logs[2])
    only = prepare(tmp_path / "raw", tmp_path / "random", logs=("random",))
    assert only == expected(logs[2])


def test_the_parts_of_27k_belong_together(tmp_path):
    names = ["log_standard_4_08_to_4_21_27k_part1.csv", "log_standard_4_08_to_4_21_27k_part2.csv",
             "log_standard_4_22_to_5_08_27k_part1.csv", "log_random_4_22_to_5_08_27k.csv",
             "user_features_27k.csv", "video_features_basic_27k.csv",
             "video_features_statistic_27k_part1.csv", "video_features_statistic_27k_part2.csv"]
    for name in [*names, "load_data_27k.py"]:
        (tmp_path / name).touch()
    version, files = kuairand_files(tmp_path)
    assert version == "27k"
    assert [file.name for file in files.log_standard] == names[:3]
    assert [file.name for file in files.log_random] == names[3:4]
    assert len(files.video_features_statistic) == 2


@pytest.mark.parametrize(("cell", "value", "reason"), [
    ("time_ms", 1_649_347_200, r"time_ms must be a whole number from 631152000000 .*1649347200"),
    ("is_click", 2, "is_click must be a whole number from 0 to 1, got '2'"),
    ("play_time_ms", -1, "play_time_ms must be a whole number from 0"),
    ("user_id", "", "user_id must be a whole number .*an empty cell"),
    ("tab", "1,2,3", "expected"),
])
def test_a_wrong_line_deep_inside_is_named(tmp_path, cell, value, reason):
    write(tmp_path / "raw")
    name = "log_standard_4_22_to_5_08_pure.csv"
    rows = log_of(2, 2500)
    rows[2000][cell] = value
    text = text_of(LOG, rows)
    if reason == "expected":
        text, reason = text.replace('"1,2,3"', "1,2,3"), "expected 19 fields.*got 21"
    (tmp_path / "raw" / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}, line 2002: {reason}"):
        prepare(tmp_path / "raw", tmp_path / "lake")


def test_tables_that_do_not_belong_to_the_log_are_refused(tmp_path):
    write(tmp_path / "raw")
    path = tmp_path / "raw" / "video_features_basic_pure.csv"
    path.write_text(text_of(VIDEOS, videos()[:50]))
    with pytest.raises(DataError, match="rows from line 2 on are of a video_id without a descr"):
        prepare(tmp_path / "raw", tmp_path / "lake", block_bytes=2**20)
    path.write_text(text_of(VIDEOS, [*videos(), videos()[7]]))
    with pytest.raises(DataError, match=r"video_features_basic_pure\.csv: video_id \d+ is described"
                                        " twice"):
        prepare(tmp_path / "raw", tmp_path / "lake")


def test_the_header_in_the_middle_is_refused(tmp_path):
    write(tmp_path / "raw")
    path = tmp_path / "raw" / "log_standard_4_08_to_4_21_pure.csv"
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match="line 3002: the header comes again"):
        prepare(tmp_path / "raw", tmp_path / "lake")


def test_the_config_reads_what_the_source_writes(tmp_path):
    write(tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "lake")
    config = yaml.safe_load(Path("conf/data/kuairand.yaml").read_text())
    schema = schema_from_dict({key: value for key, value in config.items()
                               if key not in ("source", "raw", "lake")})
    leaks = {*FEEDBACK, "visible_status", "watch_weight", *(f"video_{name}" for name in STATISTICS)}
    assert not leaks & {field.name for field in schema.fields}
    day = datetime.date(2022, 4, 10)
    assert Lake(tmp_path / "lake").read(day, schema).num_rows > 500
    weighted = schema_from_dict({**schema.to_dict(), "label": "long_view",
                                 "weight": "watch_weight"})
    assert Lake(tmp_path / "lake").read(day, weighted).num_rows > 500


@pytest.mark.parametrize(("options", "message"), [
    ({"raw": None}, r"unpacked folder of KuaiRand-Pure.*https://kuairand\.com"),
    ({"logs": ("standard", "standard")}, "logs must be a list of standard and random"),
    ({"logs": ()}, "logs must be a list"),
    ({"logs": ("random",)}, r"lacks it"),
    ({"statistics": ("counts",)}, r"expected video_features_statistic_\*\.csv"),
    ({"statistics": ("likes",)}, "likes is no column of video_features_statistic"),
])
def test_wrong_settings_are_found_before_data_is_read(tmp_path, options, message):
    for name in ("log_standard_4_08_to_4_21_pure.csv", "user_features_pure.csv",
                 "video_features_basic_pure.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=message):
        KuaiRand(**{"raw": str(tmp_path), **options}).prepare(tmp_path / "lake")


def test_two_versions_in_a_folder_are_refused(tmp_path):
    for version in ("pure", "1k"):
        (tmp_path / f"user_features_{version}.csv").touch()
    (found,) = KuaiRand(raw=str(tmp_path)).mistakes(tmp_path / "lake")
    assert "holds the versions 1k and pure of KuaiRand" in found
