"""What a network is: layers as pairs of pure functions, and the combinators that compose them."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn._tree import fold_name
from fnn._types import Array, Key, Params, State, check_array
from fnn.ops._window import Window

Children = tuple[tuple[str, "Layer"], ...]


@dataclass(frozen=True)
class Layer:
    """A network, or a part of one: two pure functions over a pytree of parameters.

        params, state = layer.init(key, x)
        y, state = layer.apply(params, state, x, train=False, key=None, mask=None)

    `x` carries the batch axis; for `init` an array or a `jax.ShapeDtypeStruct`, of which only shape and
    dtype count (parameters take its dtype, float32 where it holds integers). `train` is a Python bool;
    `key` is needed by stochastic layers when training; `mask` (N,) says which examples of a padded batch
    are real, for layers that compute statistics over the batch. A kind such as "conv" gives the automatic
    names conv_1, conv_2, …; `name` replaces that. `rebuild(children)` makes the same container around
    other children. `window(x)` is the window that slides over the spatial axes of x, for
    `fnn.receptive_field`; without one, each place sees only itself.
    """

    kind: str
    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[Array, State]]
    name: str | None = None
    children: Children = ()
    rebuild: Callable[[Children], Layer] | None = None
    window: Callable[[jax.ShapeDtypeStruct], Window] | None = None

    @property
    def is_container(self) -> bool:
        """Whether it can be taken apart: it has children, and can be made anew around others."""
        return bool(self.children) and self.rebuild is not None

    def with_each(self, change: Callable[[Layer], Layer]) -> Layer:
        """The same container around its children, each of them changed."""
        assert self.rebuild is not None
        return self.rebuild(tuple((name, change(child)) for name, child in self.children))


LayerLike = Layer | Callable[[Array], Array]
"""A layer, or a plain function of one array."""


class LayerError(ValueError):
    """A layer that does not fit its input or its use; the message starts with the layer's path."""

    def __init__(self, path: str, problem: str) -> None:
        """Keep the path apart from the problem, so that each container can put its part in front."""
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


@contextmanager
def located(name: str) -> Iterator[None]:
    """Say in every error that comes from inside at which layer it happened."""
    try:
        yield
    except LayerError as error:
        raise LayerError(f"{name}/{error.path}", error.problem) from error
    except ValueError as error:
        raise LayerError(name, str(error)) from error
    except Exception as error:
        if "(jvp) to a custom_vjp" in str(error):
            raise LayerError(
                name,
                "its gradient is written out, in reverse mode only; for a Hessian times v take "
                "jax.vjp(jax.grad(loss), params)[1](v), for a Hessian jax.jacrev(jax.grad(loss))",
            ) from error
        error.add_note(f"in the layer {name}")
        raise


def layer(
    kind: str,
    apply: Callable[[Params, Array], Array],
    init: Callable[[Key, jax.ShapeDtypeStruct], Params] | None = None,
    *,
    name: str | None = None,
    window: Callable[[jax.ShapeDtypeStruct], Window] | None = None,
) -> Layer:
    """A layer without state or randomness, from `apply(params, x)` and `init(key, x)`.

    Args:
        kind: gives the automatic names, scale_1, scale_2, … for "scale".
        apply: the output for an input x with its batch axis.
        init: the parameters for an input of this shape and dtype; without it there are none.
        name: in place of the automatic one.
        window: see `Layer`.

    Raises:
        TypeError: a kind that is no string; when it is applied, anything but one array from `apply`.

    >>> import jax.numpy as jnp
    >>> def init(key, x):
    ...     return {"factor": jnp.ones(())}
    >>> scale = layer("scale", lambda params, x: params["factor"] * x, init)
    >>> params, state = scale.init(jax.random.key(0), jnp.ones((2, 3)))
    >>> scale.apply(params, state, jnp.ones((2, 3)))[0].shape
    (2, 3)
    """
    if not isinstance(kind, str):
        raise TypeError(
            'a layer begins with its kind, a string such as "scale": layer(kind, apply, init), not with '
            f"{getattr(kind, '__name__', type(kind).__name__)}"
        )

    def init_(key: Key, x: Any) -> tuple[Params, State]:
        return ({} if init is None else init(key, as_shape(x))), {}

    def apply_(
        params: Params,
        state: State,
        x: Array,
        *,
        train: bool = False,
        key: Key | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, State]:
        del train, key, mask
        y = apply(params, x)
        if not hasattr(y, "shape"):
            raise TypeError(f"the layer {kind} must return one array, not {type(y).__name__}")
        return y, state

    return Layer(kind, init_, apply_, name, window=window)


def as_layer(value: LayerLike) -> Layer:
    """A layer as it is; a plain function of one array as a layer without parameters."""
    if isinstance(value, Layer):
        return value
    function = getattr(value, "func", value)  # what a functools.partial calls
    kind = getattr(function, "__name__", "function").strip("<>_")
    if not callable(value):
        way_out = "; pass them one by one, serial(*layers)" if type(value) in (list, tuple) else ""
        raise TypeError(f"a layer or a function of one array is wanted, not {type(value).__name__}{way_out}")
    try:
        makes_layers = inspect.signature(function).return_annotation in (Layer, "Layer")
    except ValueError:  # some builtins have no signature
        makes_layers = False
    if makes_layers:
        raise TypeError(f"{kind} is a function that makes a layer: call it, {kind}(…)")

    def apply(params: Params, x: Array) -> Array:
        y = value(x)
        if isinstance(y, Layer):
            raise TypeError(f"{kind} is a function that makes a layer: call it, {kind}(…)")
        return y

    return layer(kind, apply)


def as_shape(x: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an input as parameters will see it: floating, of an enabled precision."""
    check_sample(x)
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.float32
    return jax.ShapeDtypeStruct(x.shape, dtype)


def check_sample(x: Any) -> None:
    """Raise TypeError where parameters are to be made for no input, but for a shape alone or a key."""
    wanted = "x must be an array with its batch axis, or a jax.ShapeDtypeStruct(shape, dtype)"
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        raise TypeError(f"{wanted}, not {type(x).__name__}")
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{wanted}, not a random key: init(key, x)")


def check_train(train: bool) -> None:
    """`train` decides what is computed, so it must be known when the function is traced."""
    if not isinstance(train, bool):
        raise TypeError(
            f"train must be a Python bool, not {train!r}: fix it before tracing, "
            "jit(partial(net.apply, train=True)), or name it in jit(..., static_argnames='train')"
        )


def serial(*layers: LayerLike, name: str | None = None) -> Layer:
    """Layers one after the other; each takes the output of the one before.

    Shapes are never written: `init` learns them by evaluating the layers on shapes alone. Each layer's
    parameters stand under its name, automatic names count per kind (conv_1, conv_2, …), and a layer draws
    its initial values from a key addressed by its path, so inserting a layer of another kind or appending
    one changes no other layer's.

    Raises:
        ValueError: two layers of the same name.
        LayerError: a layer that does not fit its input, with its path.

    >>> import jax, jax.numpy as jnp, fnn
    >>> net = serial(fnn.linear(16), fnn.relu, fnn.linear(10, name="head"))
    >>> params, state = net.init(jax.random.key(0), jnp.ones((4, 8)))
    >>> params["head"]["kernel"].shape
    (16, 10)
    """
    return in_series(named(layers), name=name)


def residual(*layers: LayerLike, shortcut: LayerLike | None = None, name: str | None = None) -> Layer:
    """Layers in series, with their input added to their output.

        y = shortcut(x) + f(x)

    `shortcut` is the identity unless a layer is given, such as a 1×1 convolution where shapes change; its
    path ends in `shortcut`.

    Raises:
        ValueError: the two summands differ in shape; inside of another layer a `LayerError` with the path.

    Source: He et al. (2016), "Deep Residual Learning for Image Recognition".
    """
    body = named(layers)
    if "shortcut" in dict(body):
        raise ValueError("the name 'shortcut' belongs to a residual's shortcut; give the layer another name")
    if shortcut is not None:
        body = (*body, ("shortcut", as_layer(shortcut)))
        _check_unique(body)
    return _residual(body, name=name)


def named(layers: tuple[LayerLike, ...]) -> Children:
    """Give each layer its own name, or its kind and its number among the layers of that kind."""
    count: Counter[str] = Counter()
    children = []
    for child in map(as_layer, layers):
        count[child.kind] += 1
        children.append((child.name or f"{child.kind}_{count[child.kind]}", child))
    _check_unique(tuple(children))
    return tuple(children)


def _check_unique(children: Children) -> None:
    for name, times in Counter(name for name, _ in children).items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(
                "a layer's name is a string of letters, digits and underscores, the first no digit, "
                f"not {name!r}"
            )
        if times > 1:
            raise ValueError(f"{times} layers have the name {name!r}; names beside each other must differ")


def in_series(children: Children, *, name: str | None) -> Layer:
    """The container of `serial` around layers that have their names."""

    def init(key: Key, x: Any) -> tuple[Params, State]:
        params, state, _ = _init_in_series(children, key, as_shape(x))
        return params, state

    def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
        _check_names(params, children)
        return _apply_in_series(children, params, state, x, **context)

    return Layer("serial", init, apply, name, children, lambda children: in_series(children, name=name))


def _residual(children: Children, *, name: str | None) -> Layer:
    body, shortcut = split_shortcut(children)

    def init(key: Key, x: Any) -> tuple[Params, State]:
        params, state, _ = _init_in_series(body, key, as_shape(x))
        more_params, more_state, _ = _init_in_series(shortcut, key, as_shape(x))
        return {**params, **more_params}, {**state, **more_state}

    def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
        _check_names(params, children)
        y, new_state = _apply_in_series(body, params, state, x, **context)
        x, more_state = _apply_in_series(shortcut, params, state, x, **context)
        if x.shape != y.shape:
            raise ValueError(
                f"a residual adds its input {x.shape} to its output {y.shape}, which differ; give a "
                "shortcut that changes the input alike, such as a convolution of size 1"
            )
        return x + y, {**new_state, **more_state}

    return Layer("residual", init, apply, name, children, lambda children: _residual(children, name=name))


def split_shortcut(children: Children) -> tuple[Children, Children]:
    """The two branches of a residual: its layers in series, and its shortcut, which may be empty."""
    body = tuple(child for child in children if child[0] != "shortcut")
    return body, tuple(child for child in children if child[0] == "shortcut")


def _init_in_series(
    children: Children, key: Key, x: jax.ShapeDtypeStruct
) -> tuple[Params, State, jax.ShapeDtypeStruct]:
    all_params, all_state = {}, {}
    for name, child in children:
        with located(name):
            params, state = child.init(fold_name(key, name), x)
            x, _ = jax.eval_shape(child.apply, params, state, x)
        if not _is_empty(params):
            all_params[name] = params
        if not _is_empty(state):
            all_state[name] = state
    return all_params, all_state, x


def _apply_in_series(
    children: Children,
    params: Params,
    state: State,
    x: Array,
    *,
    train: bool = False,
    key: Key | None = None,
    mask: Array | None = None,
) -> tuple[Array, State]:
    check_train(train)
    new_state = {}
    for name, child in children:
        own_key = None if key is None else fold_name(key, name)
        own = params.get(name, {}), state.get(name, {})
        with located(name):
            try:
                x, child_state = child.apply(*own, x, train=train, key=own_key, mask=mask)
            except KeyError as error:
                _check_complete(child, own, x, *error.args[:1])
                raise
            except (AttributeError, TypeError):
                _check_whole(own[0])
                check_array("x", x)
                raise
        if not _is_empty(child_state):
            new_state[name] = child_state
    return x, new_state


def _is_empty(tree: Any) -> bool:
    """Whether a layer has nothing to keep: `{}`, or another pytree without leaves and branches."""
    structure: Any = jax.tree.structure(tree)
    return structure.num_leaves == 0 and not structure.children()


def _check_complete(child: Layer, own: tuple[Params, State], x: Array, missed: Any = None) -> None:
    """Raise ValueError where the name that was missed is one that the layer's init returns."""
    wanted = jax.eval_shape(lambda key: child.init(key, as_shape(x)), jax.random.key(0))
    for names, given in zip(wanted, own, strict=True):
        if isinstance(names, Mapping) and missed in names and missed not in given:
            raise ValueError(
                f"there is no parameter {missed!r}; use the params that this network's init returned"
            )


def _check_whole(params: Params) -> None:
    """Raise ValueError where parameters have holes."""
    if any(leaf is None for leaf in jax.tree.leaves(params, is_leaf=lambda leaf: leaf is None)):
        raise ValueError(
            "the parameters hold None: they are one part of `partition`; make them whole with `combine`"
        )


def _check_names(params: Mapping[str, Any], children: Children) -> None:
    unknown = [name for name in params if name not in dict(children)]
    if unknown:
        raise ValueError(
            f"there is no layer named {unknown[0]!r} here; the layers are "
            f"{', '.join(name for name, _ in children)}; use the params that this network's init returned"
        )


def walk(net: LayerLike, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """Every layer of a network that cannot be taken apart further, with its path, in network order."""
    net = as_layer(net)
    if not net.is_container:
        yield prefix.rstrip("/"), net
        return
    for name, child in net.children:
        yield from walk(child, f"{prefix}{name}/")
