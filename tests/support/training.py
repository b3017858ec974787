"""The shortest training there is."""

SHORT = [
    "network.options={dim: 16, widths: [8, 8, 16, 16], per_size: null, counts: [1, 1]}",
    "views.size=64",
    "method.points=32",
    "optimization.batch=4",
    "optimization.steps=20",
    "optimization.warmup=2",
    "validation.every=5",
    "validation.pairs=8",
    "validation.size=64",
    "run.minutes=0",
    "run.vocabulary=0",
    "run.tensorboard=false",
    "run.least_rank=0",
]
