"""The closed vocabularies of the cards: areas, problem tags, kinds of data.

Each word comes with plain words that a reader might use for it. They are indexed with the cards, so a search for
"smaller model" finds what is tagged ``model-compression``. A card with a word that is not here does not load.
"""

from __future__ import annotations

AREAS = {
    "landscape": "how few numbers a model needs, and training or compressing inside that few",
    "geometry": "shape, dimension, density and topology of a data set",
    "partition": "clusters, novel classes, few-shot labels, dictionaries",
    "representation": "what networks learn: features, collapse, kernels, pretraining",
    "trust": "explanations, probabilities, invariance, robustness",
    "generative": "diffusion and other generative models of continuous data",
    "discrete": "generative models of tokens and other discrete variables",
    "shapes": "three-dimensional shapes, meshes and fields",
    "dynamics": "sequences, time series, dynamical systems and control",
    "solvers": "linear systems, partial differential equations, bilevel problems",
    "privacy": "differential privacy and federated learning",
}

PROBLEM_TAGS = {
    "adversarial-robustness": "attacks, adversarial examples, defend a classifier",
    "any-order": "condition on any subset, fill in missing entries, marginal probabilities",
    "calibration": "probability of an event, overconfident predictions, uncertainty, risk",
    "class-imbalance": "imbalanced classes, long tail, minority class",
    "clustering": "group similar points without labels, number of clusters",
    "conditional-generation": "steer or guide what is generated: class, text, reward",
    "control": "reinforcement learning, policy, simulator, robot",
    "data-difficulty": "how hard a data set is, how many samples are needed",
    "density-estimation": "density of points, bandwidth, likelihood",
    "differential-privacy": "privacy guarantee, sensitive or confidential records, personal data",
    "distribution-shift": "new domains or environments, transfer, invariance",
    "dynamical-systems": "nonlinear dynamics, chaos, attractors, spectra",
    "efficient-inference": "faster and smaller at prediction time, deployment on small devices",
    "explainability": "interpret a black box, feature importance, rules",
    "federated-learning": "clients, local devices, communication between workers, non-iid data",
    "few-labels": "few labelled examples, semi-supervised, few-shot",
    "fine-tuning": "adapt a pretrained model with few trained parameters, adapters",
    "forecasting": "predict the future of a time series",
    "generalization": "test error, sample size, bounds, overfitting",
    "generation": "sample new data, generative model",
    "gradient-compression": "compress gradients or updates, low bandwidth",
    "hyperparameters": "tune parameters automatically, bandits, bilevel optimisation",
    "intrinsic-dimension": "effective number of dimensions, degrees of freedom, data manifold",
    "inverse-problems": "reconstruct from few or indirect measurements",
    "kernels": "kernel methods, Gaussian processes",
    "linear-solvers": "iterative solution of linear systems, preconditioning",
    "long-sequences": "sequence model with long memory, state space layers",
    "low-rank": "low-rank or tensor factorisation, few factors",
    "matrix-sketching": "random projections, sampling of rows, coresets",
    "mesh-generation": "polygon meshes, 3D geometry, CAD",
    "model-compression": "smaller model, fewer parameters, fewer bytes",
    "network-comparison": "similarity of representations, merge or align networks",
    "neural-fields": "coordinates to values, radiance fields, implicit surfaces, rendering",
    "noisy-data": "corrupted or noisy training samples, outliers, denoising",
    "novel-classes": "unknown categories, open world",
    "partial-differential-equations": "physics simulation, finite elements, operator learning",
    "pruning": "sparse weights, zeros in the network",
    "quantization": "few bits, low precision, integer arithmetic",
    "regression": "predict a number, linear model",
    "representation-learning": "features, embeddings, unsupervised pretraining",
    "sample-quality": "detect or remove bad samples, memorisation, copies",
    "synthetic-data": "artificial records or features in place of real ones",
    "theory": "formulas and guarantees to compute with",
    "topology": "persistent homology, holes and loops, shape of point clouds",
    "training-geometry": "geometry of last-layer features and classifiers, neural collapse",
}

DATA_KINDS = {
    "tabular": "tables, spreadsheets, records with columns",
    "image": "pictures, photographs, pixels",
    "text": "documents, language",
    "graph": "nodes and edges",
    "point-cloud": "sets of points in space",
    "mesh": "surfaces, shapes",
    "volume": "voxels, scans, slices",
    "time-series": "signals, measurements over time",
    "sequence": "long sequences, audio",
    "discrete": "tokens, molecules, codes, categorical variables",
    "coordinates": "positions in space or time with values",
    "tensor": "arrays with several modes",
    "embeddings": "feature vectors of a trained network",
    "model": "a neural network and its weights",
    "linear-system": "sparse matrices and right-hand sides",
    "pde": "equations of physics on a domain",
    "environment": "games, simulators, agents",
    "private": "sensitive records that must not leak",
    "federated": "data spread over clients",
}

# kinds that are also handled where the key is asked for: an embedding is a table of numbers, and so on
ALSO_HANDLED_AS = {"embeddings": ("tabular",), "time-series": ("sequence",), "sequence": ("time-series",)}

GPU = ("no", "optional", "yes")


def words_for(areas: tuple[str, ...], tags: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """Return the words under which a card with these areas, tags and kinds of data should be found."""
    plain = [name.replace("-", " ") for name in (*areas, *tags, *kinds)]
    return "; ".join([*plain, *(PROBLEM_TAGS[tag] for tag in tags), *(DATA_KINDS[kind] for kind in kinds)])
