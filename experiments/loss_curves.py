"""probe"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

BATCH, EVERY = 50, 5


def curve(x, y, setting, seed, steps: int):
    """(1 + steps / EVERY,) the training loss, before the first step and after every 5 of them."""
    net, key = fnn.mlp((64,) * 3, 10), jax.random.key(seed)
    params, state = net.init(key, x[:1])
    params = jax.tree.map(lambda w: w * setting["scale"], params)
    optimizer = fnn.sgd(setting["rate"])

    def loss(params, rows):
        return fnn.softmax_cross_entropy(net.apply(params, state, x[rows])[0], y[rows]).mean()

    def step(carry, rows):
        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params, rows), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    def record(carry, rows):
        after, _ = jax.lax.scan(step, carry, rows)
        return after, loss(after[0], jnp.arange(500))

    rows = jax.random.randint(jax.random.fold_in(key, 1), (steps // EVERY, EVERY, BATCH), 0, len(x))
    _, losses = jax.lax.scan(record, (params, optimizer.init(params)), rows)
    return jnp.concatenate([loss(params, jnp.arange(500))[None], losses])
@partial(jax.jit, static_argnames="steps")
def runs(x, y, settings, seeds, steps: int):
    """The curves for every setting and seed."""
    run = partial(curve, x, y, steps=steps)
    return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(settings, seeds)
train=fnn.digits().train
x=fnn.to_float(jnp.asarray(train.x)).reshape(len(train.x),-1); y=jnp.asarray(train.y)
rates=[1e-4,1e-3,.1,.2,.3,.5,.7,1.,1.5,2.,3., .1,.1,.1,.1]
scales=[1.]*11+[.5,.35,.25,.15]
L=np.asarray(runs(x,y,dict(rate=jnp.array(rates),scale=jnp.array(scales)),jnp.arange(5),1000))
np.set_printoptions(precision=3,suppress=True,linewidth=150)
for i,(r,s) in enumerate(zip(rates,scales)):
    l=L[i]; 
    fall=(l[:,0]-l[:,-1])/l[:,0]
    path=np.abs(np.diff(l)).sum(1)/np.ptp(l,axis=1)
    def t(l,f):
        lvl=l[0]-f*(l[0]-l[-1]); return int(np.argmax(l<=lvl))
    print(r,s,'fall',fall,'path',path,'t10/t50',np.array([t(q,.1)/max(t(q,.5),1) for q in l]),'t50',[t(q,.5) for q in l])
    print('    ',l[0,[0,2,5,10,20,40,80,120,160,200]], 'end',l[:,-20:].mean(1))
