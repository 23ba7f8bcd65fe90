import pytest

from retrain.report.charts import SIDE, Axis, learning_chart, reliability_chart, risk_chart

BIN = {"confidence": 0.75, "accuracy": 0.5, "interval": [0.25, 1.0], "count": 4}


def test_point_stands_where_its_values_say():
    chart = reliability_chart([BIN])
    assert list(chart.places(chart.series[0])) == [(0.75 * SIDE, 0.5 * SIDE, 0.75 * SIDE, 0.0)]


def test_axis_of_counts_is_logarithmic():
    axis = Axis(100, 400, [], "", logarithmic=True)
    assert [axis.place(value) for value in (100, 200, 400)] == [0, SIDE / 2, SIDE]


def test_axis_of_one_value_has_a_place_for_it():
    assert Axis(5, 5, [], "", logarithmic=True).place(5) == 0


def test_before_and_after_are_told_apart():
    assert [series.style for series in reliability_chart([BIN], [BIN]).series] == ["faint", "main"]
    assert [series.name for series in reliability_chart([BIN]).series] == ["accuracy"]


@pytest.mark.parametrize(("lowest", "floor"), [(0.97, 0.95), (0.93, 0.9), (0.6, 0.5), (0.2, 0.0)])
def test_accuracies_fill_the_chart(lowest, floor):
    curve = [{"coverage": 0.5, "accuracy": 1.0}, {"coverage": 1.0, "accuracy": lowest}]
    assert risk_chart(curve).y.low == floor


def test_interval_decides_where_the_axis_of_a_learning_curve_begins():
    points = [{"images": 10 * 2**step, "accuracy": 0.9, "interval": [0.7, 0.95]} for step in range(4)]
    chart = learning_chart(points)
    assert chart.y.low == 0.5
    assert [label for _, label in chart.x.ticks] == ["10", "20", "40", "80"]


def test_chart_of_nothing_is_empty():
    assert list(risk_chart([]).places(risk_chart([]).series[0])) == []
