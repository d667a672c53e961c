"""What a run tells Lightning: logger, accelerator, device and precision; and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest
from safetensors.torch import load
from support.cli_parts import refused, run
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import STUDENT_WEIGHTS
from esccs_edge.errors import InputError
from esccs_edge.training.comparison.run import compare
from esccs_edge.training.options_file import changed_options, options_from
from esccs_edge.training.run import train
from esccs_edge.training.scene_options import TrainOptions
from esccs_edge.training.stages.trainer import check_trainer

STAGES = ("teacher", "sar-auxiliary", "optical-auxiliary", "student")
OWN = "support.own_loggers"
CONFIG = """
threads = 1
accelerator = "cpu"
teacher = {network = {width = 4, blocks = [1, 1]}, schedule = {epochs = 2, batch_size = 8}}
[auxiliary]
optical = {width = 4, blocks = [1, 1]}
sar = {width = 4, blocks = [1, 1]}
schedule = {epochs = 2, batch_size = 8}
[student]
optical = {width = 4, blocks = [1, 1]}
sar = {width = 4, blocks = [1, 1]}
schedule = {epochs = 2, batch_size = 8}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_index(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def with_csv(data, tmp_path_factory):
    """A run of the command line that logs as CSV."""
    folder = tmp_path_factory.mktemp("csv")
    (folder / "run.toml").write_text(CONFIG)
    done = run("train", "--config", folder / "run.toml", "--data", data, "--out", folder / "run",
               "--logger", "csv", "--devices", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder / "run"


def test_lightnings_csv_logger_gets_every_stage(with_csv):
    for stage in STAGES:
        with (with_csv / "logs" / "csv" / stage / "metrics.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        own = (with_csv / "logs" / f"{stage}.csv").read_text().splitlines()
        assert len(rows) == 2 == len(own) - 1
        assert float(rows[-1]["loss"]) == pytest.approx(float(own[-1].split(",")[1]), rel=1e-4)
    assert not (with_csv / "logs" / "tensorboard").exists()


def test_provenance_names_what_lightning_was_told(with_csv):
    told = Bundle.open(with_csv / "bundle").manifest.provenance["options"]
    found = [told[key] for key in ("logger", "accelerator", "devices", "precision")]
    assert found == ["csv", "cpu", "1", "32-true"]


def test_a_logger_of_the_users_changes_no_number(with_csv, data, tmp_path):
    (tmp_path / "run.toml").write_text(CONFIG)
    done = run("train", "--config", tmp_path / "run.toml", "--data", data, "--out",
               tmp_path / "run", "--logger", f"{OWN}:lines")  # fmt: skip
    assert done.exit_code == 0, done.output
    for stage in STAGES:
        written = (tmp_path / "run" / "logs" / f"{stage}.jsonl").read_text().splitlines()
        assert {"loss", "epoch", "step"} <= json.loads(written[-1]).keys()
    ours, theirs = (
        load(Bundle.open(folder / "bundle").read(STUDENT_WEIGHTS))
        for folder in (tmp_path / "run", with_csv)
    )
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_run_goes_on_with_another_logger_and_not_with_other_arithmetic():
    options = TrainOptions()
    record = json.loads(json.dumps(options.as_dict()))
    assert changed_options(record, options.evolve(logger="csv", devices="1,", data="there")) == []
    changed = changed_options(record, options.evolve(accelerator="cpu", precision="bf16-mixed"))
    assert changed == ["accelerator", "precision"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("logger", "wandbb", "'wandbb', expected tensorboard, csv, none or package.module:factory"),
        ("logger", f"{OWN}:nothing", "option 'logger'"),
        ("logger", "no_such_package:logger", "option 'logger'"),
        ("accelerator", "fpga", "accelerator is 'fpga'"),
        ("devices", "first", "devices is 'first'"),
        ("devices", "0", "devices is '0'"),
        ("devices", "2", "2 devices, expected one"),
        ("precision", "16-mixed", "precision is '16-mixed', which"),
        ("precision", "half", "expected one of '32-true', 'bf16-mixed', '16-mixed'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_data_are_read(tmp_path, option, value, words):
    (tmp_path / "run.toml").write_text('accelerator = "cpu"')
    done = run("train", "--config", tmp_path / "run.toml", "--data", tmp_path / "nowhere.csv",
               "--out", tmp_path / "run", f"--{option}", value)  # fmt: skip
    assert words in refused(done)
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_refused_in_lightnings_words():
    with pytest.raises(InputError, match="accelerator is 'mps'") as found:
        check_trainer(TrainOptions(accelerator="mps"))
    assert "MPS" in str(found.value.hint)


def test_a_comparison_refuses_it_too_and_takes_it_from_the_command_line(tmp_path):
    with pytest.raises(InputError, match="expected tensorboard"):
        compare("a.csv", "b.csv", tmp_path / "out", options=TrainOptions(logger="mine"))
    done = run("compare", "--train", "a.csv", "--test", "b.csv", "--out", tmp_path / "out",
               "--logger", "mine")  # fmt: skip
    assert "expected tensorboard" in refused(done)
    assert not (tmp_path / "out").exists()


def test_a_factory_that_makes_no_logger_is_refused_before_a_stage_learns(data, tmp_path):
    document = tiny_document(data, tmp_path / "run", epochs=1, logger=f"{OWN}:no_logger")
    with pytest.raises(InputError, match="makes str, expected a logger of lightning"):
        train(options_from(document))
    assert not (tmp_path / "run" / "checkpoints").exists()
