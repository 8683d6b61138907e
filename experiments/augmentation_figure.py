"""What each augmentation does: ten images of Fashion-MNIST, and below them one draw of each function.

    python experiments/augmentation_figure.py

"Another way to avoid overfitting is to largen the data set. We can do this by changing brightness of images,
rollovering images, randomly cropping and scaling images, etc." (the notes). Every column is one image, every
row one function at the strength that stands beside it, drawn as in a training step: the whole row from one
key. alternating_flip has two rows, since it shows its point in successive epochs only.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import fnn

FIGURE = Path(__file__).parents[1] / "docs/figures/augmentations.png"
AUGMENTATIONS = {
    fnn.random_brightness: {"delta": 0.3},
    fnn.random_contrast: {"delta": 0.7},
    fnn.random_flip: {},
    fnn.random_vertical_flip: {},
    fnn.random_roll: {"shift": 8},
    fnn.random_crop: {"padding": 4},
    fnn.random_resized_crop: {"scale": 0.4, "ratio": 4 / 3},
    fnn.random_rotation: {"degrees": 30.0},
    fnn.random_shift: {"pixels": 4.0},
    fnn.cutout: {"size": 12.0},
    fnn.mixup: {"alpha": 1.0},
}


def rows(x: jax.Array) -> dict[str, jax.Array]:
    """The images after each augmentation, by what stands beside the row."""
    shown = {"as they are": x}
    for epoch in range(2):
        visit = fnn.Visit(jnp.arange(len(x)), jnp.array(epoch))
        shown[f"alternating_flip\nepoch {epoch}"] = fnn.alternating_flip(jax.random.key(0), x, visit)
    for number, (augment, settings) in enumerate(AUGMENTATIONS.items()):
        y = jax.jit(partial(augment, **settings))(jax.random.fold_in(jax.random.key(0), number), x)
        strengths = ", ".join(f"{name} {value:.3g}" for name, value in settings.items())
        shown[f"{augment.__name__}\n{strengths}"] = y.x if isinstance(y, fnn.Mixed) else y
    return shown


def main() -> None:
    """Draw the figure and say where it is."""
    train = fnn.fashion_mnist().train
    first = [int(np.flatnonzero(train.y == label)[1]) for label in range(10)]
    shown = rows(fnn.to_float(jnp.asarray(train.x[first])))
    figure = Figure(figsize=(7.2, 0.58 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 10)
    for line, (title, images) in zip(axes, shown.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=100)
    Image.open(FIGURE).convert("L").save(FIGURE, optimize=True)  # grey alone is half as large
    print(f"figure: docs/figures/{FIGURE.name}")


if __name__ == "__main__":
    main()
