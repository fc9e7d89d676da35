"""Interactive figures that are still pictures where there are no widgets."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from utils.plotting import alternative_text, img, png


@dataclass(frozen=True, eq=False)
class Explorer:
    """A figure with controls: what `explore` returns, and what a notebook displays.

    `callback(**values)` returns a new figure for values of the controls; `still` is the first picture, as PNG.
    """

    callback: Callable[..., Figure]
    controls: Mapping[str, Any]
    view: Any
    still: bytes

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """One output for all front ends: live widgets where there are any, otherwise the still picture."""
        names = ", ".join(f"{name}={control.value}" for name, control in self.controls.items())
        bundle: dict[str, Any] = dict(self.view._repr_mimebundle_())
        bundle["image/png"] = b64encode(self.still).decode("ascii")
        bundle["text/plain"] = f"Interactive figure: {names}"
        return bundle


def explore(callback: Callable[..., Figure], **controls: Any) -> Explorer:
    """Let the reader move `controls` (ipywidgets) and redraw the figure that `callback(**values)` returns.

    Leave the result as the last expression of a cell to show it. The figure is drawn once at once, so a callback that
    fails stops the cell. Every figure is closed after it was drawn.
    """

    def draw() -> tuple[bytes, str]:
        fig = callback(**{name: control.value for name, control in controls.items()})
        alt = alternative_text(fig)
        return png(fig), alt

    still, alt = draw()
    image = ipywidgets.HTML(img(still, alt))

    def redraw(_change: object) -> None:
        image.value = img(*draw())

    for control in controls.values():
        control.observe(redraw, names="value")
    view = ipywidgets.VBox([ipywidgets.HBox(list(controls.values())), image])
    return Explorer(callback, controls, view, still)


def slider(
    description: str, value: float, minimum: float, maximum: float, step: float
) -> ipywidgets.FloatSlider | ipywidgets.IntSlider:
    """A slider with room for its description; whole numbers throughout give an integer slider."""
    whole = all(float(number).is_integer() for number in (value, minimum, maximum, step))
    kind = ipywidgets.IntSlider if whole and isinstance(step, int) else ipywidgets.FloatSlider
    return kind(
        value=value,
        min=minimum,
        max=maximum,
        step=step,
        description=description,
        style={"description_width": "initial"},
        layout=ipywidgets.Layout(width="24em"),
    )
