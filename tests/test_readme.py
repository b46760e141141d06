import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_python_example_is_the_one_that_the_wheel_test_runs():
    example = (REPOSITORY / "tests" / "readme_example.py").read_text(encoding="utf-8")
    body = example.split("\n", 1)[1]  # without the line about the test
    assert body.strip() in [block.strip() for block in blocks("python")]


def test_the_schema_of_the_readme_is_a_schema():
    yaml = pytest.importorskip("yaml")
    from dualdnn.schema import schema_from_dict
    from dualdnn.schema.field import KINDS

    (text,) = blocks("yaml")
    values = yaml.safe_load(text)
    lake = values.pop("lake")
    assert lake == "/data/feed"
    # It shows every kind that there is.
    assert {field.kind for field in schema_from_dict(values).fields} == set(KINDS)


def test_every_named_choice_exists():
    for group, options in re.findall(r"`(teacher|student|distillation|window)=([a-z_|0-9]+)`",
                                     README):
        for option in options.split("|"):
            assert (REPOSITORY / "conf" / group / f"{option}.yaml").is_file(), (group, option)


def test_no_path_of_a_machine_is_left():
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)/", README)
