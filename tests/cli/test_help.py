"""`--help` of the program and of each command."""

import dataclasses
import inspect
import re
import subprocess
import sys
from importlib import import_module
from typing import get_args

import pytest

from djinn.cli import COMMANDS, command_module, main, parsing
from djinn.data.importers.registry import importers


def help_text(capsys: pytest.CaptureFixture, *args: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 0
    return capsys.readouterr().out


def options_of(command: str) -> type:
    """Return the options dataclass of a command."""
    members = vars(command_module(command)).values()
    (found,) = [m for m in members if inspect.isclass(m) and re.fullmatch(r"[A-Z]\w*Options", m.__name__)]
    return found


def test_help_lists_every_command_and_imports_neither_torch_nor_tyro():
    code = (
        "import sys; from djinn.cli import main; main(['--help']); sys.exit(bool({'torch', 'tyro'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    for command, text in COMMANDS.items():
        assert f"  {command} " in result.stdout
        assert text in result.stdout


def test_help_of_a_command_does_not_import_torch():
    code = "import sys; from djinn.cli import command_module; command_module(sys.argv[1]); sys.exit('torch' in sys.modules)"
    for command in COMMANDS:
        assert subprocess.run([sys.executable, "-c", code, command], timeout=60).returncode == 0, command


def test_import_of_djinn_imports_no_heavy_package():
    code = "import sys, djinn; sys.exit(bool({'torch', 'numpy', 'yaml', 'tyro'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_training_play_and_evaluation_need_no_video_library():
    modules = "djinn.pipeline, djinn.generate, djinn.report.run, djinn.benchmark.run"
    subprocess.run([sys.executable, "-c", f"import sys; sys.modules['av'] = None; import {modules}"], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture):
    text = help_text(capsys, *command.split(), "--help")
    assert text.startswith(f"usage: djinn {command}")
    assert "None" not in text
    examples = text.partition("For example:")[2]
    assert f"djinn {command} " in examples


@pytest.mark.parametrize(
    "options",
    [
        *(options_of(command) for command in COMMANDS if command != "data import"),
        *(importer.options for importer in importers().values()),
    ],
)
def test_every_option_has_a_help_text(options: type):
    assert dataclasses.is_dataclass(options) and options.__dataclass_params__.frozen
    source = "\n".join(inspect.getsource(base) for base in options.__mro__ if dataclasses.is_dataclass(base))
    for field in dataclasses.fields(options):
        assert re.search(rf'^    {field.name}: .*\n    """\w|^    {field.name}: .*help=', source, re.MULTILINE), field


@pytest.mark.parametrize(
    ("command", "function"),
    [
        ("sample", "djinn.sample:sample"),
        ("name", "djinn.actions.name_world:run_naming"),
        ("diagnose", "djinn.diagnose.run:run_diagnosis"),
        ("bench", "djinn.benchmark.run:bench"),
        ("plan", "djinn.plan:print_plan"),
    ],
)
def test_options_are_the_parameters_of_the_function_that_is_called(command: str, function: str):
    module, name = function.split(":")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    assert set(parameters) == {field.name for field in dataclasses.fields(options_of(command))}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("data import videos", "--out --size --fps --fit"),
        ("data import images", "--out --size --fps --fit"),
        ("data import procgen", "--out --size --fps --levels --frames --mode --policy"),
        ("train", "--preset --out --stage --minutes --steps"),
        ("sample", "--image --prompt --actions --out --seed"),
        ("play", "--host --port --no-browser"),
        ("eval", "--json --report --long-rollouts --examples"),
        ("bench", "--json --no-train"),
    ],
)
def test_documented_options_exist(command: str, options: str, capsys: pytest.CaptureFixture):
    text = help_text(capsys, *command.split(), "--help")
    assert [option for option in options.split() if option not in text] == []


def test_help_config_lists_every_setting_of_the_preset(capsys: pytest.CaptureFixture):
    text = help_text(capsys, "train", "--preset", "genie-10.1b", "--help-config")
    assert "--world.dynamics.transformer.blocks" in text
    assert "(default: 5120)" in text


def test_defaults_that_help_texts_state(capsys: pytest.CaptureFixture):
    from djinn.evaluate.settings import DRIFT_FRAMES, EXAMPLES

    text = " ".join(help_text(capsys, "eval", "--help").replace("│", " ").split())
    assert f"spread over the sources. The default is {EXAMPLES} with a report" in text
    assert f"The default is {DRIFT_FRAMES} with a report" in text


def test_help_command_is_the_same_as_the_option(capsys: pytest.CaptureFixture):
    assert help_text(capsys, "help", "data", "info") == help_text(capsys, "data", "info", "--help")
    main(["help"])
    assert capsys.readouterr().out.startswith("usage: djinn COMMAND")


def test_choices_are_those_of_the_functions_that_are_called():
    from djinn.backends import select
    from djinn.data.splits import SPLITS

    assert get_args(parsing.Engine) == get_args(select.Engine)
    assert get_args(parsing.Split) == SPLITS


def test_version(capsys: pytest.CaptureFixture):
    main(["--version"])
    assert capsys.readouterr().out.startswith("djinn 0.")
