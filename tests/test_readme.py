import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hydra import initialize_config_dir

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from pipelines.compose import composed, resolved
from pipelines.plan import plan_from

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

    text = next(block for block in blocks("yaml") if block.startswith("name: my_feed"))
    values = yaml.safe_load(text)
    lake = values.pop("lake")
    assert lake == "/data/feed"
    # It shows every kind that there is.
    assert {field.kind for field in schema_from_dict(values).fields} == set(KINDS)


def test_the_layer_of_the_readme_makes_a_teacher(tmp_path, monkeypatch):
    code = next(block for block in blocks("python") if "layers/products.py" in block)
    config = next(block for block in blocks("yaml") if "FieldProducts" in block)
    (tmp_path / "products.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "products.yaml").write_text(
        config.replace("dualdnn.layers.products", "products"), encoding="utf-8")
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        given = ["teacher=products", f"hydra.searchpath=[file://{tmp_path}]"]
        plan = plan_from(resolved(composed("train", given)))
    (layer,) = plan.teacher.interactions
    fields = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(
        layer(fields), [[one[i] @ one[j] for i, j in itertools.combinations(range(4), 2)]
                        for one in fields], rtol=1e-5)


def test_every_named_choice_exists():
    for group, options in re.findall(r"`(teacher|student|distillation|window)=([a-z_|0-9]+)`",
                                     README):
        for option in options.split("|"):
            assert (REPOSITORY / "conf" / group / f"{option}.yaml").is_file(), (group, option)


@pytest.mark.parametrize("document", ["README.md", "RUNBOOK.md", "benchmarks/RESULTS.md",
                                      "benchmarks/quality/scheme_analysis.md"])
def test_documents_name_no_path_of_a_machine_and_link_to_what_is_there(document):
    path = REPOSITORY / document
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)/", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, heading = target.partition("#")
        linked = path.parent / name
        assert linked.is_file(), target
        if heading:
            assert re.search(rf"^#+ {heading}$", linked.read_text(encoding="utf-8"),
                             re.IGNORECASE | re.MULTILINE), target
