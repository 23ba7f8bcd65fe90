"""One self-contained HTML page about a trained model."""

from importlib import resources


def render_report(model):
    """HTML of a model's report, from what the model itself carries.  Everything in it is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    template = resources.files("retrain.report").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(template).render(classes=model.classes, **model.info)
