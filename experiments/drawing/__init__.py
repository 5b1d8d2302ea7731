"""How things look: one style for every static figure, and the kinds of figure that several questions share.

from experiments.drawing import paper, save_figure, style_of

with paper():
    figure, axis = plt.subplots()
    axis.plot(x, y, color=style_of("netkv_full").colour)
    save_figure(figure, Path("figure"))
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
