"""Charts of the report as inline SVG, with colours from the CSS of the page: they follow its light and dark mode."""

from anoframe.report.charts.axes import nice_ticks, number
from anoframe.report.charts.curves import Line, curve_chart
from anoframe.report.charts.scores import score_chart
from anoframe.report.charts.series import Series, series_chart

__all__ = ["Line", "Series", "curve_chart", "nice_ticks", "number", "score_chart", "series_chart"]
