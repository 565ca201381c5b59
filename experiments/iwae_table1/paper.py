"""Burda, Grosse and Salakhutdinov 2015: what Tables 1 to 3 vary, how long is trained, and how figures are judged."""

from evidence.report.study import Budget

PASSES = 3280  # over the training set: eight stages
STEPS_A_PASS = 2980  # of MNIST
SAMPLES = 5000  # S of L_S
KS = (1, 5, 50)
LAYERS = {"one_layer": 1, "two_layer": 2}
OBJECTIVES = {"vae": "VAE", "iwae": "IWAE"}
DATA = {"mnist": "MNIST", "mnist_fixed": "fixed MNIST", "omniglot": "OMNIGLOT"}
NATS, NATS_AT_ONE = 0.5, 1.0  # tolerances of a full-length run, for k >= 5 and for k = 1
UNITS = 2  # tolerance of active units

# What most cells are trained with: 13, 40 and 3280 passes.
BUDGETS: dict[Budget, list[str]] = {
    "quick": ["trainer=quick", "eval=quick", "seed=0"],
    "day": ["trainer=quick", "trainer.stages=4", "eval=paper", "seed=0,1,2"],
    "paper": ["trainer=paper", "eval=paper", "seed=0,1,2"],
}
FURTHER = ["trainer=quick", "trainer.stages=5", "eval=paper", "seed=0"]  # 121 passes, after those of `day`

# The ends of the stages before, of one seed and of few images: how the gains from k come about.
ENDS: dict[Budget, list[str]] = {
    "quick": ["model=one_layer", "trainer=quick", "trainer.stages=1,2", "eval=quick"],
    "day": ["model=one_layer,two_layer", "trainer=quick", "trainer.stages=1,2,3", "eval=paper"],
    "paper": ["model=one_layer,two_layer", "trainer=paper", "trainer.stages=1,2,3,4,5,6,7", "eval=paper"],
}
FEW_IMAGES = ["eval.images=1000", "seed=0"]
