"""What holds for every public name. A new name is checked without a new line here."""

import dataclasses
import inspect

import pytest

import keras_fitkit as kf
from tests.contract.cases import BAD_ARGUMENTS, UNRANGED

NAMES = [name for name in kf.__all__ if not inspect.ismodule(getattr(kf, name))]
ROOMS = [
    getattr(kf, name) for name in kf.__all__ if inspect.ismodule(getattr(kf, name))
]
ROOMS.append(kf.blocks.nets)
PUBLIC = {name: getattr(kf, name) for name in NAMES} | {
    f"{room.__name__.partition('.')[2]}.{name}": getattr(room, name)
    for room in ROOMS
    for name in room.__all__
    if name not in NAMES and not inspect.ismodule(getattr(room, name))
}

REPORTS = (
    "BitAssignment",
    "BitSensitivity",
    "CalibrationReport",
    "ChannelGroups",
    "CheckReport",
    "CrossValidationReport",
    "Comparison",
    "CompressionReport",
    "Diagnosis",
    "DropReport",
    "ExportReport",
    "FactorizationReport",
    "LatencyReport",
    "LearningCurveReport",
    "MacsReport",
    "PackedSize",
    "MembershipReport",
    "RegularizationReport",
    "RemedyReport",
    "RewriteReport",
    "ShrinkReport",
    "SparsityReport",
    "StoppingReport",
)
# Handed to users, not made by them.
MADE_BY_US = (
    *REPORTS,
    "LayerMacs",
    "blocks.FactorizedLayer",
    "blocks.LayerChange",
    "distillation.ModelOutputs",
    "evidence.Estimate",
    "evidence.FoldResult",
    "evidence.RemedyTrial",
    "evidence.SizePoint",
    "evidence.SizeRun",
    "monitoring.Remedy",
    "packing.TensorSize",
    "pruning.ChannelContext",
    "pruning.ChannelGroup",
    "pruning.Droppable",
    "pruning.FrozenChannels",
    "pruning.ScoreContext",
    "pruning.ShrunkLayer",
    "pruning.WeightSparsity",
    "quantization.FloatOp",
    "quantization.LayerCalibration",
    "quantization.LayerError",
    "quantization.LayerSensitivity",
    "quantization.StaysFloat",
    "regularizers.Augmentation",
    "regularizers.Finding",
    "regularizers.PresetTable",
    "regularizers.RegularizedLayer",
    "report.ClassChange",
    "report.Forgotten",
    "report.Latency",
    "report.MetricValue",
    "report.ModelFigures",
    "report.PairedTest",
    "report.WeightStorage",
)


def test_all_lists_exactly_what_is_exported():
    for module in (kf, *ROOMS):
        exported = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (not inspect.ismodule(value) or value in ROOMS)
        }
        assert set(module.__all__) == exported
        assert list(module.__all__) == sorted(module.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_it_has_a_docstring_with_an_example_that_runs(name):
    text = inspect.getdoc(PUBLIC[name])
    assert text
    assert "Example:" in text
    assert ">>>" in text  # sybil runs every such line


@pytest.mark.parametrize("name", PUBLIC)
def test_it_documents_what_it_raises(name):
    assert "Raises:" in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_documented_and_typed(name):
    value = PUBLIC[name]
    if inspect.isclass(value) and issubclass(value, Exception):
        pytest.skip("an exception class takes what Python's own take")
    signature = inspect.signature(value)
    text = inspect.getdoc(PUBLIC[name])
    for argument in signature.parameters.values():
        assert f"{argument.name}:" in text or f"{argument.name}," in text, argument.name
        assert argument.annotation is not argument.empty, argument.name


def constructors():
    """Public names that users call with arguments of their own."""
    for name, value in PUBLIC.items():
        made_by_us = name in MADE_BY_US
        exception = inspect.isclass(value) and issubclass(value, Exception)
        if not made_by_us and not exception and inspect.signature(value).parameters:
            yield name


@pytest.mark.parametrize("name", list(constructors()))
def test_every_argument_has_a_raising_case_or_a_reason(name):
    arguments = set(inspect.signature(PUBLIC[name]).parameters)
    told = set(BAD_ARGUMENTS[name]) | set(UNRANGED.get(name, {}))
    assert told == arguments


@pytest.mark.parametrize(
    ("name", "argument", "case"),
    [
        (name, argument, case)
        for name, by_argument in BAD_ARGUMENTS.items()
        for argument, cases in by_argument.items()
        for case in cases
    ],
)
def test_a_value_outside_the_documented_range_is_named(name, argument, case):
    with pytest.raises(case.error, match=case.match) as caught:
        PUBLIC[name](**case.arguments(argument))
    assert f"`{argument}`" in str(caught.value)
    assert "Received: " in str(caught.value)


def test_reports_are_plain_objects():
    for name in REPORTS:
        report = getattr(kf, name)
        assert dataclasses.is_dataclass(report)
        for method in ("render", "to_dict", "__repr__", "_repr_html_"):
            assert method in vars(report), f"{name}.{method}"
