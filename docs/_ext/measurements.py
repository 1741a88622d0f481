"""The small measurements that pages show, run by ``tools/record_pages.py`` and never by a build.

Each public function that takes ``save`` is one: it returns the Markdown of what it found. ``save(figure, alt, part)``
keeps a picture and returns the line that shows it; ``part`` tells the pictures of one measurement apart. What only
reads the claims' records is in ``measured.py`` and made at every build.
"""

import math

import numpy as np
from tables import table


def clouds(n=1000, seed=0):
    """Point clouds of known dimension: (name, dimension, points)."""
    rng = np.random.default_rng(seed)

    def ball(m):
        x = rng.normal(size=(n, m))
        return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.uniform(size=(n, 1)) ** (1 / m)

    def embed(x, columns=50):
        turn = np.linalg.qr(rng.normal(size=(columns, columns)))[0]
        return np.pad(x, ((0, 0), (0, columns - x.shape[1]))) @ turn

    sphere = rng.normal(size=(n, 11))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    angle = rng.uniform(1.5 * math.pi, 4.5 * math.pi, size=n)
    roll = np.c_[angle * np.cos(angle), 21 * rng.uniform(size=n), angle * np.sin(angle)]
    t = rng.uniform(0, 2 * math.pi, size=n)
    waves = np.c_[tuple(f(j * t) for j in (1, 2, 3) for f in (np.cos, np.sin))]
    thick = embed(ball(2), 20) + rng.normal(scale=0.02, size=(n, 20))
    return [
        ("ball", 2, embed(ball(2))),
        ("ball", 5, embed(ball(5))),
        ("ball", 10, embed(ball(10))),
        ("ball", 20, embed(ball(20))),
        ("cube", 10, embed(rng.uniform(size=(n, 10)))),
        ("sphere", 10, embed(sphere)),
        ("rolled sheet", 2, roll),
        ("wound curve", 1, waves),
        ("disc with noise in 20 directions", 2, thick),
    ]


def ambient_diffusion(save):
    """Samples of two curves learnt from few clean and many noisy points."""
    import matplotlib.pyplot as plt
    from sklearn.datasets import make_moons

    from lodim.generative import AmbientDiffusion, attach_noise
    from lodim.nets import TimeMLP
    from lodim.plots import style
    from lodim.randomness import build_seeded

    X = make_moons(1240, noise=0.02, random_state=0)[0]
    Y, noise = attach_noise(X, 0.2, 1200 / 1240, random_state=0)
    clean = noise == 0
    arms = {"40 clean": (Y[clean], 0), "1,240 as if clean": (Y, 0), "1,240, noise known": (Y, noise)}
    with style():
        figure, panels = plt.subplots(1, 4, figsize=(9, 2.8), sharex=True, sharey=True, layout="constrained")
    panels[0].plot(*Y[~clean].T, ".", markersize=2, color="C7", rasterized=True)
    panels[0].plot(*Y[clean].T, ".", markersize=4, color="black")
    panels[0].set(title="40 clean, 1,200 noisy", xlim=(-1.7, 2.7), ylim=(-1.2, 1.7))
    for axes, (title, (rows, told)) in zip(panels[1:], arms.items(), strict=True):
        model = AmbientDiffusion(build_seeded(lambda: TimeMLP(2, 64, 3), 0), 2).fit(rows, told, steps=4000)
        axes.plot(*model.sample(1000, generator=0).T, ".", markersize=2, rasterized=True)
        axes.set(title=title)
    for axes in panels:
        axes.set_aspect("equal")
    alt = "two curves: clean points alone leave gaps, all as if clean blur; noise known they are nearly sharp"
    lines = [
        save(figure, alt),
        "",
        "Training points and 1,000 samples of each model: clean ones alone leave gaps, noise that is known fills them, "
        "with some points astray.",
        "",
    ]
    return "\n".join(lines)


def denoiser_dimension(save):
    """The dimension of a sphere over the noise, by the exact denoiser of a sample."""
    import torch

    from lodim.datasets import manifold
    from lodim.generative import EmpiricalDenoiser, estimate_dimension
    from lodim.plots import new_axes

    X = manifold("sphere", 3000, 2, 3, random_state=0).X
    known = EmpiricalDenoiser(torch.from_numpy(X[:2900]))
    sigmas = np.geomspace(0.005, 1, 16)
    axes = new_axes()
    shown = {"points it has seen": X[:100], "points it has not": X[2900:]}
    for name, points in shown.items():
        found = estimate_dimension(known, points, sigmas, random_state=0)
        axes.semilogx(found.sigmas, np.median(found.profile, 1), "o-", label=f"trace of the Jacobian, {name}")
        axes.semilogx(found.sigmas, found.error, ":", label=f"error over the noise, {name}")
    axes.set(
        xlabel="noise",
        ylabel="dimension",
        ylim=(0, 4),
        title="A sphere, by a denoiser that knows 2,900 points of it",
    )
    axes.legend()
    alt = (
        "the trace rises from 0, stays at 2 and falls; the error of unseen points comes down to it from above"
    )
    lines = [save(axes.figure, alt), ""]
    return "\n".join(lines)


def diffusion_mbir(save):
    """A volume in three planes and its reconstructions."""
    import matplotlib.pyplot as plt
    import torch

    from lodim.datasets import ellipse_volume
    from lodim.generative import (
        ADMMTV,
        FBP,
        Diffusion,
        DiffusionMBIR,
        ParallelBeam,
        plot_planes,
        volume_quality,
    )
    from lodim.nets import TimeMLP
    from lodim.plots import style
    from lodim.randomness import build_seeded

    size, slices = 16, 24
    truth = torch.from_numpy(ellipse_volume(slices, size, random_state=0))
    others = [ellipse_volume(slices, size, random_state=i) for i in range(1, 400)]
    net = build_seeded(lambda: TimeMLP(size**2, 512, 2), 0)
    model = Diffusion(net, (1, size, size)).fit(torch.from_numpy(np.concatenate(others)), steps=1500)
    beam = ParallelBeam(size, n_views=4)
    y = beam.forward(truth)
    found = {
        "truth": truth,
        "filtered back-projection": FBP(beam).reconstruct(y),
        "total variation": max(
            (ADMMTV(beam, lam, max_iter=60).reconstruct(y) for lam in (3e-4, 1e-3, 3e-3)),
            key=lambda x: volume_quality(x, truth).psnr["volume"],
        ),
        "slices alone": DiffusionMBIR(model, beam, lam=0).reconstruct(y, generator=0).volume,
        "DiffusionMBIR": DiffusionMBIR(model, beam).reconstruct(y, generator=0).volume,
    }
    with style():
        figure, panels = plt.subplots(len(found), 1, figsize=(5.2, 9.4), layout="constrained")
    for axes, (name, volume) in zip(panels, found.items(), strict=True):
        plot_planes(volume, axes, value_range=(0, float(truth.max())))
        quality = volume_quality(volume, truth, y=y, operator=beam)
        said = "" if name == "truth" else (
            f": {quality.psnr['volume']:.1f} dB, roughness {quality.roughness_ratio:.2g} of the truth's"
        )  # fmt: skip
        axes.set_title(name + said, fontsize=9)
    alt = "axial, coronal and sagittal slices of a volume and of four reconstructions; figures are in the titles"
    lines = [
        save(figure, alt),
        "",
        f"A volume of {slices} slices of {size} x {size} from four views, by an axial, a coronal and a sagittal slice. "
        "The prior is a small network trained on slices of 399 other volumes; total variation has the best of "
        "three weights.",
        "",
    ]
    return "\n".join(lines)


def estimators(save):
    """Every estimator's answer on clouds of known dimension, and the calibrated ones below."""
    from lodim.dimension.methods import CONSENSUS, METHODS
    from lodim.geometry import intrinsic_dimensions

    methods = tuple(m for m in METHODS if m not in ("consensus", "twonn_fit", "mle_unbiased"))
    plain, calibrated = [], []
    for name, m, X in clouds():
        found = intrinsic_dimensions(X, methods, ci=None, scales=False, random_state=0)
        said = {key: e.dimension for key, e in found.estimates.items()}
        plain.append((name, m, *(f"{said[key]:.1f}" if key in said else "" for key in methods)))
        corrected = (f"{found.estimates[key].calibrated:.1f}" for key in CONSENSUS)
        calibrated.append((name, m, f"**{found.dimension:.1f}**", *corrected))
    names = tuple(f"`{key}`" for key in methods)
    first = table(("1,000 points", "true", *names), plain)
    voting = tuple(f"`{key}`" for key in CONSENSUS)
    second = table(("1,000 points", "true", "consensus", *voting), calibrated)
    return (
        f"As their papers define them:\n\n{first}\n"
        f"The consensus, and what five estimators say by themselves once calibrated:\n\n{second}"
    )


def groups_null(save):
    """How often ungrouped rows show groups, how often two balls do, and the picture of three."""
    from lodim.partition import groups

    def sphere(rng, n):
        x = rng.normal(size=(n, 4))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def sheet(rng, n):
        turn = 1.5 * np.pi * (1 + 2 * rng.random(n))
        return np.c_[turn * np.cos(turn), turn * np.sin(turn), 21 * rng.random(n)]

    families = {
        "one Gaussian, 2 columns": lambda rng, n: rng.normal(size=(n, 2)),
        "one Gaussian, 10 columns": lambda rng, n: rng.normal(size=(n, 10)),
        "a cube, 3 columns": lambda rng, n: rng.random((n, 3)),
        "a rectangle 20 times as long as wide": lambda rng, n: rng.random((n, 2)) * [20, 1],
        "a rolled sheet": sheet,
        "a sphere in 4 columns": sphere,
        "exponential, 3 columns": lambda rng, n: rng.exponential(size=(n, 3)),
    }
    runs, sizes = 40, (100, 400)

    def share(draw, n, runs):
        rngs = (np.random.default_rng([seed, n]) for seed in range(runs))
        return sum(groups(draw(rng, n), n_resamples=2).n_groups > 1 for rng in rngs) / runs

    rows = [(name, *(f"{share(draw, n, runs):.0%}" for n in sizes)) for name, draw in families.items()]
    head = ("rows without groups", *(f"groups shown, {n} rows" for n in sizes))
    lines = [f"Of {runs} samples each:", "", table(head, rows)]
    apart = (3, 4, 5, 6, 8)

    def two(d, gap):
        return lambda rng, n: rng.normal(size=(n, d)) + gap * np.eye(1, d) * (np.arange(n) % 2)[:, None]

    rows = [
        (d, n, *(f"{share(two(d, gap), n, 10):.0%}" for gap in apart))
        for d in (2, 5, 10)
        for n in (200, 1000)
    ]
    lines += [
        "Two balls of deviation 1, how often of ten samples they are told apart, by the distance of their centres:",
        "",
    ]
    lines += [table(("columns", "rows", *(f"{gap} deviations" for gap in apart)), rows)]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)) + 5 * np.eye(3, 5)[rng.integers(3, size=600)]
    found = groups(X)
    axes = found.plot()
    alt = "three groups in a plane, rows that surely belong strong; two valleys are deeper than chance makes them"
    said = str(found).splitlines()[0]
    return "\n".join([*lines, save(axes.figure, alt), "", f"`{said}`", ""])


def guidance(save):
    """What a scale buys and costs, on two classes whose conditional denoisers are known."""
    import torch

    from lodim.generative import EDM, ClassifierFree, heun
    from lodim.randomness import torch_generator

    def denoise(x, sigma, cond=None):
        """Exact for N(-1, 0.6^2) and N(1, 0.6^2), evenly mixed; a label of -1 is the mixture."""
        s2 = 0.36 + torch.as_tensor(sigma).reshape(-1, 1) ** 2
        mean = torch.where(cond["label"][:, None] < 0, torch.tanh(x / s2), 1.0)
        return mean + 0.36 / s2 * (x - mean)

    n, rows = 20_000, []
    for scale in (0, 1, 1.5, 2, 4, 8):
        x = 80 * torch.randn(n, 1, generator=torch_generator(0), dtype=torch.float64)
        options = {"cond": {"label": torch.ones(n).long()}, "guidance": ClassifierFree(scale)}
        out = heun(denoise, x, EDM().sigmas(40), **options)
        sure = torch.sigmoid(2 * out / 0.36).mean()
        rows.append(
            (f"{scale:g}", f"{float(sure):.3f}", f"{float(out.mean()):.2f}", f"{float(out.std()):.2f}")
        )
    return table(("scale", "p(class given sample)", "mean (true 1)", "standard deviation (true 0.6)"), rows)


def inpainting(save):
    """What inpainting promises, on a pair of correlation 0.8 whose first number is known to be 1.5."""
    import torch
    from torch import nn

    from lodim.generative import Diffusion, GaussianDenoiser

    class Known(nn.Module):
        """What a network would predict for this pair: its data."""

        exact = GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))

        def forward(self, x, c_noise, cond=None):
            s = (4 * c_noise.double()).exp()
            return self.exact(x * (1 + s.square()).sqrt()[:, None], s).to(x.dtype)

    model, n, rows = Diffusion(Known(), 2, precond="x0", sigma_data=1.0), 4_000, []
    X = torch.tensor([[1.5, math.nan]]).repeat(n, 1)
    for steps, correct in ((50, 0), (50, 2), (100, 2), (200, 2), (200, 5)):
        out = model.inpaint(X, steps=steps, corrector_steps=correct, generator=0)[:, 1]
        calls = steps + correct * (steps - 1)
        rows.append((steps, correct, calls, f"{float(out.mean()):.2f}", f"{float(out.std()):.2f}"))
    head = ("`steps`", "`corrector_steps`", "calls", "mean (true 1.20)", "standard deviation (true 0.60)")
    return table(head, rows)


def learning_rate(save):
    """Accuracy in one subspace under unscaled and scaled learning rates."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from lodim.landscape import SubspaceModule
    from lodim.nets import fc
    from lodim.randomness import build_seeded
    from lodim.training import Recipe, Task, fit

    X, y = load_digits(return_X_y=True)
    X = (X - X.mean(0)) / 8
    X, X_val, y, y_val = train_test_split(X, y, test_size=0.2, random_state=0, stratify=y)
    task, d = Task.from_arrays(X, y, X_val, y_val), 200
    rows = []
    for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1):
        scores = []
        for seed in (0, 1):
            model = SubspaceModule(build_seeded(lambda: fc(64, 10, width=64, depth=2), seed), d, seed=seed)
            scores.append(fit(model, task, Recipe(), lr=lr, random_state=seed).score)
        D = sum(p.numel() for p in fc(64, 10, width=64, depth=2).parameters())
        rows.append((f"{lr:g}", f"{lr / math.sqrt(D / d):.1g}", f"{np.mean(scores):.3f}"))
    head = ("Adam's rate for v", "divided by √(D/d)", f"accuracy at d = {d}")
    said = (
        f"The handwritten digits of scikit-learn, a network of {D:,} weights, unit columns, 30 epochs, mean of two "
        "seeds. The middle column is what the rate amounts to in direct training, where 0.001 is usual:"
    )
    return f"{said}\n\n{table(head, rows)}"


def latent_quantization(save):
    """An attack against each defence, on small digits."""
    from sklearn.datasets import load_digits
    from torch import nn

    from lodim.nets import mlp
    from lodim.randomness import build_seeded
    from lodim.trust import LQVAE, adversarial_training, defend, robustness_report

    X, y = load_digits(return_X_y=True)
    X, train, test = X.reshape(-1, 1, 8, 8) / 16, slice(0, 1400), slice(1400, 1797)

    def filtering(**options):
        encoder = nn.Sequential(nn.Flatten(), mlp([64, 128, 64]))
        decoder = nn.Sequential(mlp([32, 128, 64]), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
        model = LQVAE(encoder, decoder, 32, image_shape=(1, 8, 8), **options)
        model.fit(X[train], 2000, lr=1e-3, random_state=0)
        return model

    net, hardened = (build_seeded(lambda: nn.Sequential(nn.Flatten(), mlp([64, 64, 10])), 0) for _ in "ab")
    adversarial_training(net, X[train], y[train], eps=0.0, attack="fgsm", epochs=20, lr=5e-3, random_state=0)
    adversarial_training(hardened, X[train], y[train], eps=0.1, epochs=20, lr=5e-3, random_state=0)
    plain = {"n_bits": None, "lambda_gp": 0, "noise_scale": 1.0}
    defences = {
        "bits": defend(net, build_seeded(filtering, 0)),
        "plain VAE": defend(net, build_seeded(lambda: filtering(**plain), 0)),
        "trained on attacks": hardened,
    }
    report = robustness_report(net, defences, X[test], y[test], eps=0.1, random_state=0)
    axes = report.plot()
    axes.figure.set_size_inches(9, 4)
    alt = "accuracy of four models under six threats; the adaptive attack leaves the filter of bits next to nothing"
    lines = [save(axes.figure, alt), ""]
    lines += [
        "scikit-learn's digits of 8 x 8 pixels, 397 held-out images, changes of up to 0.1. On images so small the bits "
        "cost much of the clean accuracy too. Below, the recorded claim's figures for MNIST.",
        "",
    ]
    lines += [f"- {text}" for text in report.warnings]
    return "\n".join(lines)


def mode_interpolation(save):
    """Samples between modes and their ways, of a small network on the grid."""
    import matplotlib.pyplot as plt
    import torch

    from lodim.datasets.toy import gaussian_grid
    from lodim.generative import (
        EDM,
        Diffusion,
        HallucinationDetector,
        Trajectory,
        interpolation_mass,
        sample_filtered,
    )
    from lodim.nets import TimeMLP
    from lodim.plots import COLORS, style
    from lodim.randomness import build_seeded

    grid = gaussian_grid(20_000, random_state=0)
    net = build_seeded(lambda: TimeMLP(2, 128, 3), 0)
    model = Diffusion(net, 2, sigma_data=1.0, schedule=EDM(P_mean=-1.8, P_std=1.3))
    model.fit(grid.X, steps=1500, batch_size=512)
    detector, seen = HallucinationDetector((0, 0.1), "sigma"), Trajectory(12)
    options = {"sampler": "ancestral", "sigmas": np.append(np.geomspace(10, 0.005, 80), 0.0)}
    x = model.sample(10_000, generator=0, on_step=[detector.record(), seen], batch_size=10_000, **options)
    gaps = np.linalg.norm(x[:, None] - grid.centers, axis=2).min(1) / grid.std
    calibration = detector.calibrate(gaps > 6)
    found = sample_filtered(model, 5000, detector, generator=1, show=400, batch_size=5000, **options)
    worst = np.argsort(-found.rejected_score)[:12]
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot(*found.samples.T, ".", color=COLORS[0], markersize=1.5, label="kept", rasterized=True)
    left.plot(*found.rejected.T, ".", color=COLORS[1], markersize=4, label="rejected", rasterized=True)
    left.set(xlim=(-1.8, 1.8), ylim=(-1.8, 2.2), aspect="equal")
    left.set_title(f"{found.n_rejected} of {found.n_drawn} rejected")
    left.legend(loc="upper right", ncols=2)
    kept = torch.stack(seen.x0_hat, 1).numpy()[detector.keeps()[:12]]
    for ways, color, label in ((kept, COLORS[0], "kept"), (found.trajectories[worst], COLORS[1], "rejected")):
        moved = np.linalg.norm(ways - ways[:, -1:], axis=2)
        for i, way in enumerate(moved):
            right.plot(found.sigmas, way, color=color, linewidth=1, label=label if i == 0 else None)
    right.axvspan(found.sigmas[-1], 0.1, color="gray", alpha=0.15, linewidth=0, label="window")
    right.set(xscale="log", xlim=(1, found.sigmas[-1]), xlabel="level of the noise", ylim=(0, 1),
              title="distance of the estimate to the final one")  # fmt: skip
    right.legend()
    mass = [interpolation_mass(rows, grid.centers, grid.std) for rows in (x, found.samples)]
    alt = "clusters of kept points, rejected ones between; estimates of rejected samples move late, of others do not"
    lines = [save(figure, alt), ""]
    lines += [
        "A small network on the grid of 25 Gaussians, 80 ancestral steps. Further than six deviations from all modes: "
        f"{mass[0].mass:.2%} of all samples, {mass[1].mass:.2%} of those kept. The calibration: {calibration}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def neural_collapse(save):
    """Lengths that are predicted for classes of several sizes."""
    from lodim.representation import ufm_minimizer

    axes = ufm_minimizer(list(range(500, 0, -50)), [5e-4] * 3, 1e-5).plot()
    alt = "rows of the classifier are longer, class means shorter, the more samples a class has"
    lines = [save(axes.figure, alt), ""]
    lines += ["Three linear layers, squared error, ten classes of 50 to 500 samples.", ""]
    return "\n".join(lines)


def partitive_partitioning(save):
    """What four criteria say of each k for the digits."""
    from sklearn.datasets import load_digits

    from lodim.partition import PPP, partition_curves

    X = load_digits().data / 16
    axes = partition_curves(PPP().fit(X), X, random_state=0).plot()
    alt = (
        "of digits, agreement is largest at ten clusters; silhouette, gap and BIC have their own best numbers"
    )
    lines = [save(axes.figure, alt), "", "1797 digits, ten classes.", ""]
    return "\n".join(lines)


def pfgmpp(save):
    """Field lines and phases for several D."""
    import matplotlib.pyplot as plt
    import torch
    from sklearn.datasets import load_digits

    from lodim.datasets.toy import gaussian_ring
    from lodim.generative import EDM, EmpiricalPoissonDenoiser, PoissonKernel, Trajectory, heun, phase_profile
    from lodim.plots import style

    ring = gaussian_ring(400, random_state=0)
    Y = torch.from_numpy(ring.X)
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained")
    for axes, D in zip(panels, (1, 64, math.inf), strict=True):
        start = PoissonKernel(D)(
            torch.zeros(25, 2), torch.full((25, 1), 80.0), torch.Generator().manual_seed(1)
        )
        seen = Trajectory(30)
        heun(EmpiricalPoissonDenoiser(Y, D), start.double(), EDM().sigmas(60), on_step=seen)
        for way in torch.stack(seen.x, 1).numpy():
            axes.plot(*way[np.abs(way).max(1) < 3].T, linewidth=0.8)  # the rest is out of sight
        axes.plot(*ring.X.T, ".", color="black", markersize=2, rasterized=True)
        axes.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", title=f"D = {D:g}")
    lines = [
        save(figure, "lines from far noise end on eight clusters, for each of three D", "lines"),
        "",
        "The last stretch of 25 lines from noise to 400 samples, along their exact field.",
        "",
    ]
    digits = np.random.default_rng(0).permutation(load_digits().data / 16)[:500]
    axes = phase_profile(digits, (1, 4, 64, 2048, math.inf), n=200, random_state=0).plot()
    axes.set_title("500 digits of 64 pixels")
    alt = "curves over the level of noise fall together for D of 64 and more"
    lines += [save(axes.figure, alt, "phases"), ""]
    return "\n".join(lines)


def probability_estimation(save):
    """A reliability diagram, the linear model that memorises, and how often the interval covers."""
    import matplotlib.pyplot as plt

    from lodim.plots import style
    from lodim.trust import calibration_check, simulate_memorization, simulate_outcomes

    p, y = simulate_outcomes(np.random.default_rng(0).random(1500), random_state=0)
    sure = 1 / (1 + ((1 - p) / p) ** 2)
    check = calibration_check(sure, y, random_state=0)
    path = simulate_memorization(random_state=0)
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    check.plot(axes[0]).set_title("1500 probabilities that are too sure")
    path.plot(axes[1]).set_title("A linear model, 50 rows, 400 columns")
    alt = "left: a reliability curve flatter than the diagonal; right: the error of probabilities falls, then rises"
    lines = [
        save(figure, alt),
        "",
        f"`{check.verdict}`",
        "",
        f"`{path}`",
        "",
    ]
    truths = {
        "true": lambda p: p,
        "too sure": lambda p: p**0.5 / (p**0.5 + (1 - p) ** 0.5),
        "0.05 too low": lambda p: np.minimum(p + 0.05, 1),
        "wrong in a tenth": lambda p: np.where(p < 0.1, p + 0.3, p),
    }
    rows, many = [], (np.arange(100_000) + 0.5) / 100_000
    for name, truth in truths.items():
        for n in (60, 600):
            inside, small, errors = 0, 0, []
            for i in range(200):
                rng = np.random.default_rng(i)
                p = rng.random(n)
                found = calibration_check(p, rng.random(n) < truth(p), n_bootstrap=200, random_state=i)
                bin_of = np.searchsorted(np.quantile(p, np.arange(1, 15) / 15), many)
                target = np.abs(np.bincount(bin_of, many - truth(many))).sum() / len(many)
                inside += found.interval[0] <= target + 1e-9 and target <= found.interval[1]
                small, errors = small + (found.p_value <= 0.05), [*errors, found.ece]
            rows.append(
                (
                    name,
                    n,
                    f"{target:.3f}",
                    f"{np.mean(errors):.3f}",
                    f"{inside / 200:.1%}",
                    f"{small / 200:.1%}",
                )
            )
    header = ("probabilities are", "rows", "their error", "mean ECE", "covered", "p at most 0.05")
    lines += [
        "Coverage of the 95 % interval and rate of small p-values, 200 draws each:",
        "",
        table(header, rows),
        "",
    ]
    return "\n".join(lines)


def retrieval_diffusion(save):
    """One generator of digits with two databases, from the same noise."""
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    from lodim.generative import RetrievalDiffusion, plot_samples
    from lodim.neighbors import NeighborIndex
    from lodim.nets import TimeMLP
    from lodim.plots import style
    from lodim.randomness import build_seeded

    data = load_digits()
    X, y = (data.data / 16).astype(np.float32), data.target
    early = np.flatnonzero(y < 7)
    embed = PCA(20, random_state=0).fit(X[early]).transform
    databases = [
        NeighborIndex().fit(embed(X[rows]), rows, y[rows]) for rows in (early, np.flatnonzero(y > 6))
    ]
    net = build_seeded(lambda: TimeMLP(64, context_dim=20), 0)
    model = RetrievalDiffusion(net, 64, databases[0], embed, random_state=0)
    model.fit(X[early], early, steps=2000)
    start = model.prior(36, float(model.sigmas(18)[0]), 0)
    with style():
        figure, panels = plt.subplots(1, 2, figsize=(7, 3.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)
    for axes, index, name in zip(
        panels, databases, ("0 to 6, trained on", "7 to 9, never seen"), strict=True
    ):
        made = model.sample(36, index=index, top_m=1.0, guidance=1.0, start=start, generator=0)
        plot_samples(made.reshape(-1, 8, 8), axes, n=36, value_range=(0, 1))
        axes.set_title(f"database of {name}")
    lines = [
        save(figure, "digits 0 to 6 on the left, digits that look like 7, 8 and 9 on the right"),
        "",
        "One network, trained on the digits 0 to 6 of scikit-learn with those as its database (left). On the right the "
        "same network begins with the same noise; the database alone was exchanged for the digits 7 to 9.",
        "",
    ]
    return "\n".join(lines)


def samplers(save):
    """Error against network calls of every sampler, on normal data, whose best denoiser is known."""
    import torch

    from lodim.generative import EDM, EmpiricalDenoiser, GaussianDenoiser, Trajectory, heun, plot_samples
    from lodim.generative.samplers import SAMPLERS
    from lodim.plots import new_axes
    from lodim.randomness import torch_generator

    n, sd = 5_000, torch.logspace(math.log10(0.02), 0, 16).double()
    denoiser = GaussianDenoiser(torch.zeros(16), sd.square().diag())
    budgets, axes, rows = (6, 10, 18, 36, 72, 144), new_axes(figsize=(7, 4.2)), []
    labels = {name: name for name in SAMPLERS if name != "ddim"} | {
        "euler": "euler, ddim"
    }  # the same without noise
    for i, (name, label) in enumerate(labels.items()):
        sampler, errors = SAMPLERS[name], []
        for calls in budgets:
            sigmas = EDM().sigmas((calls + 1) // 2 if name in ("heun", "pc") else calls)
            x = 80 * torch.randn(n, 16, generator=torch_generator(0))
            out = sampler(denoiser, x, sigmas, generator=torch_generator(1)).double()
            errors.append(float((out.square().mean(0).sqrt() / sd - 1).square().mean().sqrt()))
        noisy = name not in ("euler", "heun", "dpmpp_2m")
        axes.loglog(budgets, errors, "o--" if noisy else "o-", color=f"C{i}", label=label)
        rows.append((label, *(f"{100 * e:.1f}" for e in errors)))
    floor = math.sqrt(0.5 / n)
    axes.axhline(floor, color="gray", linewidth=1, linestyle=":", label="of so many samples themselves")
    axes.set(xlabel="calls of the network", ylabel="error of the standard deviations")
    axes.set_xticks(budgets, map(str, budgets), minor=False)
    axes.minorticks_off()
    axes.legend(fontsize=8, ncols=2)
    alt = "errors fall with the calls: slowest for samplers of first order, fastest for heun and dpmpp_2m"
    picture = save(axes.figure, alt)
    head = ("error in %", *(f"{calls} calls" for calls in budgets))

    from sklearn.datasets import load_digits

    digits = torch.from_numpy(load_digits().images[:, None] / 16)
    seen, start = Trajectory(5), 80 * torch.randn(36, 1, 8, 8, generator=torch_generator(2))
    out = heun(EmpiricalDenoiser(digits), start, EDM().sigmas(12), on_step=seen)
    way = save(seen.plot().figure, "five rows: a grey average becomes one digit, step by step", "trajectory")
    sheet = save(plot_samples(out).figure, "36 digits in a square", "grid")
    return "\n\n".join((picture, table(head, rows), way, sheet)) + "\n"


def sensitivity_sampling(save):
    """Total sensitivities of three families of matrices."""
    from lodim.geometry import sensitivity_growth

    found = sensitivity_growth(dims=(4, 8, 16, 24), p=4, n=4000, n_rows=60, random_state=0)
    axes = found.plot()
    alt = "total sensitivity of Gaussian matrices follows a third of the bound; polynomials and sparse grow slower"
    lines = [save(axes.figure, alt), ""]
    shown = [
        (r.name, r.d, f"{r.S:.1f}", f"{r.se:.1f}", f"{r.largest:g}") for r in found.to_frame().itertuples()
    ]
    lines += ["4000 rows, p = 4, sixty rows measured of each matrix:", ""]
    lines += [table(("matrix", "columns", "total sensitivity", "standard error", "largest possible"), shown)]
    return "\n".join(lines)


def supervised_dictionary(save):
    """Accuracy against reconstruction of scikit-learn's 1 and 8 over xi."""
    from sklearn.datasets import load_digits

    from lodim.partition import SupervisedDictionary, trade_off_curve

    X, y = load_digits(return_X_y=True)
    some = np.isin(y, [1, 8])
    found = trade_off_curve(SupervisedDictionary(2, random_state=0), X[some] / 16, y[some])
    axes = found.plot()
    axes.set_title("Two atoms for 1 and 8, by xi")
    alt = "accuracy rises with the reconstruction error as xi falls, and flattens"
    lines = [save(axes.figure, alt), ""]
    lines += ["The digits 1 and 8 of scikit-learn (8 x 8 pixels), held-out rows of five folds.", ""]
    return "\n".join(lines)


def transductive_few_shot(save):
    """Two moons with one label each, by means and by modes."""
    import matplotlib.pyplot as plt
    from sklearn.datasets import make_moons

    from lodim.partition import SLK
    from lodim.plots import COLORS, style

    X, truth = make_moons(300, noise=0.06, random_state=0)
    y = np.full(300, -1)
    told = [np.flatnonzero(truth == c)[0] for c in (0, 1)]
    y[told] = [0, 1]
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for ax, prototype in zip(axes, ("mean", "mode")):
        model = SLK(prototype=prototype, n_neighbors=5).fit(X, y)
        ax.scatter(*X.T, s=12, c=np.array(COLORS)[model.labels_])
        ax.scatter(*X[told].T, s=160, marker="*", c="black")
        right = (model.labels_ == truth).mean()
        ax.set(title=f'prototype="{prototype}": {right:.0%} right', xticks=[], yticks=[], aspect="equal")
    alt = "two moons by means, cut straight, and by modes, each whole; stars are the labelled rows"
    lines = [save(figure, alt), ""]
    lines += ["Two moons, the stars are labelled, five neighbours.", ""]
    return "\n".join(lines)


def marginalization_models(save):
    """A lattice of spins learnt from its energy, against enumeration; and a row with gaps."""
    import matplotlib.pyplot as plt
    import torch

    from lodim.discrete import IsingModel, MarginalizationModel, MaskedDiffusion, fit_energy
    from lodim.nets import ResidualMLP
    from lodim.plots import style
    from lodim.randomness import build_seeded

    lattice = IsingModel((4, 4), sigma=0.1, bias=0.2)
    net = build_seeded(lambda: ResidualMLP(3, 16, 2, 128, 2), 0)
    model = MarginalizationModel(conditional=MaskedDiffusion(2, 16, net), tie=True, random_state=0)
    fit_energy(model, lattice.log_f, steps=3000, random_state=0)
    draws = torch.Generator().manual_seed(0)
    x = lattice.gibbs_samples(600, 100, random_state=0)
    count = torch.randint(1, 16, (600, 1), generator=draws)
    observed = torch.rand(600, 16, generator=draws).argsort(1).argsort(1) < count
    truth, found = lattice.exact_log_marginal(x, observed), model.log_prob(x, observed)
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    points = panels[0].scatter(truth, found, c=count[:, 0], s=8, cmap="viridis", rasterized=True)
    panels[0].plot([-14, 0], [-14, 0], color="0.6", linewidth=0.8)
    panels[0].set(xlabel="by enumeration, nats", ylabel="in one call", title="600 log-marginals")
    figure.colorbar(points, ax=panels[0], label="observed spins")
    gaps = [[1, 1, 0, None, 1, None, None, None, 0, None, None, None, None, None, None, 1]]
    given = np.array(gaps, dtype=float).reshape(4, 4)
    up = np.exp(model.log_conditional(gaps))[0, :, 1].reshape(4, 4)
    panels[1].imshow(up, vmin=0, vmax=1, cmap="coolwarm")
    for (i, j), chance in np.ndenumerate(up):
        text = f"{chance:.2f}" if np.isnan(given[i, j]) else "+-"[int(given[i, j] == 0)]
        panels[1].text(j, i, text, ha="center", va="center", fontsize=9)
    panels[1].set(xticks=[], yticks=[], title="A row with gaps: chance of +")
    panels[1].grid(visible=False)
    report = model.consistency_report(x)
    report.plot(panels[2]).set_title("When to trust a query")
    error = float((found - truth).abs().mean())
    ask = model.log_prob(gaps)[0], lattice.exact_log_marginal(gaps)[0]
    return "\n".join(
        [
            save(
                figure,
                "left: one-call answers lie on the diagonal; middle: a lattice with gaps; right: small errors",
            ),
            "",
            f"A 4 x 4 lattice after 3,000 steps: mean error {error:.3f} nats; the row in the middle {ask[0]:.3f} in "
            f"one call, {ask[1]:.3f} by enumeration.",
            "",
            f"`{report}`",
            "",
        ]
    )


def masked_diffusion(save):
    """Text in the order it was uncovered, and the temperature that coarse random numbers amount to."""
    from lodim.datasets import load_prose
    from lodim.discrete import MaskedDiffusion, effective_temperature, truncated_gumbel_probs
    from lodim.nets import DilatedConvNet
    from lodim.plots import new_axes
    from lodim.randomness import build_seeded

    length, prose = 32, load_prose()
    lines = [prose[i : i + length] for i in range(0, len(prose) - length, 4)]
    net = build_seeded(lambda: DilatedConvNet(28, length), 0)
    model = MaskedDiffusion(backbone=net).fit(lines, steps=3400, batch_size=64, lr=3e-3)
    kept = " the exception "
    middle = [*[None] * 9, *kept, *[None] * (length - 9 - len(kept))]
    found = model.unmask(8, prompt=[*[[None] * length] * 4, *[middle] * 4], generator=0)
    axes = found.plot(texts=model.vocabulary.decode(found.tokens))
    axes.set_title("Python's help texts: four lines from nothing, four around given words")
    shown = [
        save(
            axes.figure, "eight lines of text; the colour of each letter says when it was uncovered", "order"
        ),
        "",
        f"A small network after 3,400 steps (a minute or two); grey is the prompt. {found.nfe} calls for all lines.",
        "",
    ]

    zipf = np.arange(1, 50_258) ** -1.1
    zipf /= zipf.sum()

    def temperature(bits, n):
        """Of a step that uncovers with probability 2 / n: noise that is cut; numbers on a grid, to first order."""
        law = truncated_gumbel_probs(np.append(2 / n * zipf, 1 - 2 / n), bits)[:-1]
        h = 2.0**-bits * (1 - 2 / n) / (2 / n * zipf)
        with np.errstate(over="ignore"):
            drawn = zipf * h / np.expm1(h)
        return tuple(effective_temperature(zipf, p / p.sum()) for p in (law, drawn))

    axes = new_axes()
    for name, bits, most in (("float64", 53, 1e5), ("float32", 24, 1e5), ("float16", 11, 300)):
        counts = np.geomspace(4, most, 25)
        cut, grid = zip(*(temperature(bits, n) for n in counts), strict=True)
        (line,) = axes.semilogx(counts, cut, label=f"{name}, {bits} bits")
        axes.semilogx(counts, grid, ":", color=line.get_color())
    axes.set(
        xlabel="steps of ancestral sampling",
        ylabel="effective temperature",
        ylim=(0, 1.05),
        title="50,257 words of masses as 1 / rank$^{1.1}$, drawn beside the mask",
    )
    axes.legend()
    alt = (
        "float64 stays at 1; float32 falls with the number of steps, to 0.7; float16 to 0.4 within 300 steps"
    )
    rows = [
        (f"{n:,}", *(f"{value:.3f}" for value in temperature(24, n))) for n in (16, 128, 1024, 4096, 50_000)
    ]
    shown += [
        save(axes.figure, alt, "temperature"),
        "",
        "Lines: the law of `truncated_gumbel_probs`, noise that is cut. Dotted: numbers on a grid, as torch draws, "
        "to first order. For float32:",
        "",
        table(("steps", "temperature, noise cut", "on the grid"), rows),
    ]
    return "\n".join(shown)


def few_bytes(save):
    """An image, a solid and a mesh in few bytes, beside what the usual ways make of as many."""
    import matplotlib.pyplot as plt
    from skimage.data import astronaut

    from lodim.datasets import procedural_solids
    from lodim.plots import style
    from lodim.shapes import fit, packaged_mesh

    image = astronaut()
    found = fit(image, 16_384, random_state=0)
    window = (slice(66, 152), slice(178, 264))
    others = {name: shown for name, _, shown in _front_codecs(image, found.n_bytes)}
    with style():
        figure, panels = plt.subplots(1, 4, figsize=(8.4, 2.5), layout="constrained")
    shown = {"the image": image / 255, "simplex field": found.image / 255, **others}
    of = {one.name: one for one in found.qualities}
    for axes, (name, pixels) in zip(panels, shown.items(), strict=True):
        axes.imshow(pixels[window], interpolation="none")
        axes.set_axis_off()
        told = (
            f"{of[name].psnr:.1f} dB\n{of[name].n_bytes:,} bytes" if name in of else "786,432 bytes\nas it is"
        )
        axes.set_title(f"{name}\n{told}", fontsize=9)
    alt = "a face, and the same out of a field, of JPEG and of WebP: the field is the softest, WebP the sharpest"
    lines = [
        save(figure, alt, "image"),
        "",
        f"A part of scikit-image's astronaut, 512 x 512 pixels, in 16,384 bytes ({found.seconds:.0f} s for the field). "
        "JPEG and WebP are better, as they mostly are; the field has a value at any point, and a slope.",
        "",
    ]
    table_, nut = procedural_solids(1, ("table",), random_state=0)[0].mesh(), packaged_mesh("nut")
    fits = {"a table of 5 boxes": fit(table_, random_state=0), "the nut of pyvista": fit(nut, random_state=0)}
    figure = plt.figure(figsize=(8.4, 3.8))
    rows = []
    for k, (name, one) in enumerate(fits.items()):
        axes = one.plot(figure.add_subplot(1, 2, k + 1, projection="3d"))
        axes.set_axis_off()
        axes.set_title(f"{name}: {one.n_bytes:,} bytes", fontsize=9)
        for quality in one.qualities:
            rows.append((
                name, quality.name, f"{quality.n_bytes:,}", f"{quality.n_faces:,}", f"{quality.chamfer:.2e}",
                f"{quality.chamfer_floor:.2e}", f"{quality.normal_consistency:.3f}", f"{quality.iou:.3f}",
            ))  # fmt: skip
    lines += [
        save(
            figure,
            "a table of a few boxes, and a nut of flat pieces, each piece in a colour of its own",
            "solids",
        ),
        "",
        table(("shape", "as", "bytes", "faces", "chamfer", "floor", "normals", "IoU"), rows),
        "",
        "Chamfer distances are squared, the longest side being 0.9; the floor is that of two samples of one surface. "
        f"Fitting took {', '.join(f'{one.seconds:.0f}' for one in fits.values())} s.",
        "",
    ]
    return "\n".join(lines)


def _front_codecs(image, n_bytes):
    from lodim.shapes.front import _codecs

    return _codecs(image / 255, n_bytes)


def simplex_encoding(save):
    """A photograph out of simplices, a grid and Kuhn's cells, and what each costs by dimension."""
    import matplotlib.pyplot as plt
    from skimage.data import astronaut
    from skimage.transform import resize

    from lodim.plots import style
    from lodim.shapes import HashEncoding, encoding_costs, fit_image, render_image

    image = np.rint(255 * resize(astronaut(), (256, 256), anti_aliasing=True)).astype(np.uint8)
    with style():
        figure, panels = plt.subplots(1, 4, figsize=(8.4, 2.5), layout="constrained")
    window = (slice(20, 100), slice(75, 155))
    panels[0].imshow(image[window], interpolation="none")
    panels[0].set_title("the image", fontsize=9)
    for axes, kind in zip(panels[1:], ("simplex", "grid", "kuhn"), strict=True):
        encoding = HashEncoding(2, 8, log2_table=12, n_max=256, kind=kind, random_state=0)
        field, report = fit_image(image, encoding, steps=500, batch_size=4096, random_state=0)
        axes.imshow(render_image(field, (256, 256))[window], interpolation="none")
        axes.set_title(f"{kind}\n{report.psnr:.2f} dB, {report.seconds:.1f} s", fontsize=9)
    for axes in panels:
        axes.set_axis_off()
    lines = [
        save(figure, "a face, and the same out of three fields, hard to tell apart", "image"),
        "",
        "A part of scikit-image's astronaut at 256 x 256, after 500 steps of 4,096 pixels; the tables of each hold "
        f"{report.n_table_parameters:,} numbers.",
        "",
    ]
    costs = encoding_costs(range(2, 7), n_repeats=9)
    frame = costs.to_frame()
    alt = "seconds by dimension: the grid's double with each, those of simplices grow by half as much or less"
    by = frame.pivot(index="dim", columns="kind", values="seconds") * 1e3
    ratio = frame.pivot(index="dim", columns="kind", values="ratio_to_grid")
    rows = [
        (
            d,
            *(f"{by.loc[d, kind]:.1f}" for kind in ("grid", "simplex", "kuhn")),
            f"{ratio.loc[d, 'simplex']:.2f}",
        )
        for d in by.index
    ]
    axes = costs.plot()
    axes.set_title(f"{costs.n_points:,} points, {costs.n_levels} levels, {costs.threads} thread")
    lines += [
        save(axes.figure, alt, "costs"),
        "",
        table(("dimension", "grid, ms", "simplex, ms", "kuhn, ms", "simplex over grid"), rows),
        "",
        "A further dimension takes "
        + ", ".join(
            f"{costs.growth(kind):.2f} times as long ({kind})" for kind in ("grid", "simplex", "kuhn")
        )
        + ".",
        "",
    ]
    return "\n".join(lines)


def bsp_net(save):
    """A solid as convexes, and what its union and marching cubes need."""
    import matplotlib.pyplot as plt

    from lodim.datasets import procedural_solids
    from lodim.shapes import compare_meshes, fit_shape, isosurface, to_unit_cube, voxelize

    solids = procedural_solids(2, ("chair", "cross"), random_state=3)
    figure = plt.figure(figsize=(8.4, 3.8))
    rows = []
    for k, solid in enumerate(solids):
        mesh = to_unit_cube(solid.mesh())[0]
        net, planes = fit_shape(mesh, random_state=0)
        convexes = net.extract(planes, prune=True)
        axes = convexes.plot(figure.add_subplot(1, 2, k + 1, projection="3d"))
        axes.set_axis_off()
        axes.set_title(f"{solid.family}: {len(convexes.polytopes)} convexes, {convexes.n_polygons} polygons")
        ways = {
            "union of convexes": net.to_mesh(planes, prune=True),
            "marching cubes at 64^3": isosurface(voxelize(mesh)),
        }
        for name, one in ways.items():
            found = compare_meshes(one, mesh)
            rows.append((
                solid.family, name, f"{found.n_faces:,}", f"{found.chamfer:.2e}", f"{found.chamfer_floor:.2e}",
                f"{found.normal_consistency:.3f}", f"{found.iou:.3f}",
            ))  # fmt: skip
    lines = [
        save(figure, "a chair and a cross, put together of convex pieces, each in a colour of its own"),
        "",
        table(("solid", "mesh", "faces", "chamfer", "floor", "normals", "IoU"), rows),
        "",
        "Each was fitted in 4,000 steps of 3,000 points; marching cubes see the solid itself. The floor is the chamfer "
        "distance of two samples of one surface.",
        "",
    ]
    return "\n".join(lines)


def argus3d(save):
    """Solids of eight families: as they are, out of their tokens, new ones by class, and a scan completed."""
    import matplotlib.pyplot as plt

    from lodim.datasets import procedural_solids
    from lodim.datasets.solids import FAMILIES
    from lodim.plots import COLORS
    from lodim.shapes import (
        Argus3D,
        ShapeGPT,
        ShapeTokenizer,
        cut_points,
        shape_set,
        total_mutual_difference,
        unidirectional_hausdorff,
    )
    from lodim.shapes.bsp_net.convexes import draw_polygons

    solids = {
        name: procedural_solids(n, random_state=k) for k, (name, n) in enumerate(SOLIDS_OF_ARGUS.items())
    }
    train, test = (shape_set(part, n_points=512, random_state=k) for k, part in enumerate(solids.values()))
    tokenizer = ShapeTokenizer(32, 12, latent_channels=48, n_blocks=3, unet_width=8, random_state=0)
    model = Argus3D(tokenizer, ShapeGPT(512, 64, 128, 4, 4, n_classes=8, random_state=0))
    seconds = model.fit_tokenizer(train, steps=1200, lr=1.5e-3).seconds
    seconds += model.fit_prior(train, steps=600).seconds
    first = [int(np.flatnonzero(test.labels == k)[0]) for k in range(8)]
    made = model.generate(8, y=np.arange(8), resolution=32, generator=0)
    rows = {
        "test solid": [solids["test"][i].mesh() for i in first],
        "out of 64 tokens": [model.reconstruct(test.points[i], 32) for i in first],
        "new, by class": made,
    }

    def draw(axes, mesh, colour):
        axes.set_axis_off()
        if len(mesh.faces):
            draw_polygons(axes, mesh.triangles, colour, colour)
            axes.collections[0].set_rasterized(True)

    lines = []
    for r, (title, meshes) in enumerate(rows.items()):
        # a row is a picture of its own, or the file would be large
        figure = plt.figure(figsize=(7, 1.0), layout="constrained")
        for k, mesh in enumerate(meshes):
            axes = figure.add_subplot(1, 8, k + 1, projection="3d")
            draw(axes, mesh, COLORS[r])
            axes.set_title(FAMILIES[k].replace("_", " ") if not r else "", fontsize=8)
        figure.text(0, 0.5, title, rotation=90, va="center", ha="right", fontsize=7)
        lines += [
            save(figure, f"{title}, one of each of eight families", ("solids", "decoded", "made")[r]),
            "",
        ]
    empty = sum(not len(mesh.faces) for mesh in made)
    lines += [
        f"2,000 solids to learn from, {seconds / 60:.0f} minutes for both stages. {model.code_usage(test)}. Nothing is "
        f"chosen: the first test solid of each family, and the first sample; {empty} of 8 samples are empty.",
        "",
    ]
    scanner = Argus3D(tokenizer, ShapeGPT(512, 64, 128, 4, 4, max_condition_tokens=64, random_state=0))
    seconds = scanner.fit_prior(train, condition="partial", steps=300).seconds
    i = first[FAMILIES.index("chair")]
    scan = cut_points(test.points[i], 0.5, 0)
    completions = scanner.complete(scan, 3, resolution=32, generator=0)
    figure = plt.figure(figsize=(7, 1.6), layout="constrained")
    axes = figure.add_subplot(1, 5, 1, projection="3d")
    # a mesh that is not seen sets the view
    draw(axes, solids["test"][i].mesh(), COLORS[0])
    axes.collections[0].set_visible(False)
    axes.scatter(*scan.T, s=2, color=COLORS[1], rasterized=True)
    axes.set_title(f"{len(scan)} points", fontsize=8)
    titled = [
        ("whole", solids["test"][i].mesh(), COLORS[0]),
        *((f"completed, {k + 1}", m, COLORS[2]) for k, m in enumerate(completions)),
    ]
    for k, (title, mesh, colour) in enumerate(titled):
        axes = figure.add_subplot(1, 5, k + 2, projection="3d")
        draw(axes, mesh, colour)
        axes.set_title(title, fontsize=8)
    whole = [mesh for mesh in completions if len(mesh.faces)]
    told = (
        [f"they stray {unidirectional_hausdorff(scan, whole):.3f} from the points"]
        if whole
        else ["all are empty"]
    )
    if len(whole) > 1:
        told.append(f"differ by {total_mutual_difference(whole):.3g} (TMD)")
    lines += [
        save(figure, "half of a chair's points, the chair, and three chairs made of the half", "scan"),
        "",
        f"Half of a chair, and what a prior trained on parts ({seconds / 60:.0f} minutes) makes of it: "
        f"{', '.join(told)}.",
        "",
    ]
    return "\n".join(lines)


SOLIDS_OF_ARGUS = {"train": 2000, "test": 200}


def epigraf(save):
    """Chairs learnt from single pictures: samples, one from eight sides, surfaces, and a new one from one picture."""
    import matplotlib.pyplot as plt
    import torch

    from lodim.datasets import procedural_solids
    from lodim.plots import COLORS
    from lodim.shapes import (
        CameraDistribution,
        EpiGRAF,
        PatchDiscriminator,
        TriplaneGenerator,
        camera_to_world,
        compare_meshes,
        render_solids,
        view_consistency,
    )
    from lodim.shapes.bsp_net.convexes import draw_polygons

    def row(images, alt, part, titles=()):
        figure, panels = plt.subplots(1, 8, figsize=(7, 1.0), layout="constrained")
        for k, axes in enumerate(panels):
            axes.set_axis_off()
            if k < len(images):
                axes.imshow(np.moveaxis(np.asarray(images[k]), 0, -1), interpolation="none")
            if k < len(titles):
                axes.set_title(titles[k], fontsize=8)
        return [save(figure, alt, part), ""]

    def surfaces(meshes, alt, part, titles=()):
        figure = plt.figure(figsize=(7, 1.0), layout="constrained")
        for k, mesh in enumerate(meshes):
            axes = figure.add_subplot(1, 8, k + 1, projection="3d")
            axes.set_axis_off()
            if len(mesh.faces):
                draw_polygons(axes, mesh.triangles, COLORS[2], COLORS[2])
                axes.collections[0].set_rasterized(True)
            if k < len(titles):
                axes.set_title(titles[k], fontsize=8)
        return [save(figure, alt, part), ""]

    cameras = CameraDistribution("uniform", mean=(0.0, 0.4), spread=(math.pi, 0.2), radius=2.0, fov=0.7)

    def pictures(n, seed):
        chairs = procedural_solids(n, ("chair",), random_state=seed)
        poses = cameras.sample(n, torch.Generator().manual_seed(seed))
        images, _ = render_solids(chairs, poses, cameras.fov, 128)
        return chairs, poses, torch.nn.functional.avg_pool2d(images, 2)

    images = pictures(2000, 0)[2]
    generator = TriplaneGenerator(
        32, 32, 48, 12, base_channels=32, hidden=32, n_coarse=16, n_fine=16, random_state=0
    )
    model = EpiGRAF(
        generator, PatchDiscriminator(32, 64, channels=24, max_channels=96, random_state=1), cameras
    )
    stages = {150: [], 600: []}

    def keep(run):
        if run.step in stages:
            stages[run.step] = model.sample(8, generator=torch.Generator().manual_seed(1))

    seconds = model.fit(images, steps=3000, on_step=keep).seconds
    lines = row(images[:8], "eight of the 2,000 pictures", "real", ("a picture of each",))
    for step, drawn in stages.items():
        lines += row(drawn, f"eight samples after {step} steps", f"step{step}", (f"{step} steps",))
    samples = model.sample(8, generator=torch.Generator().manual_seed(1))
    lines += row(samples, "eight samples after 3,000 steps", "samples", ("3,000 steps",))
    z = torch.randn(8, 32, generator=torch.Generator().manual_seed(2))
    yaw = torch.arange(8) * math.pi / 4
    around = camera_to_world(torch.stack([yaw, torch.full((8,), 0.4)], 1), radius=2.0)
    with torch.no_grad():
        turned = model.average.eval()(z[:1].expand(8, -1), around, resolution=128).images
    lines += row(turned, "one of them from eight sides", "turned", ("one, around",))
    meshes = [model.extract_mesh(one, 64) for one in z]
    lines += surfaces(meshes, "surfaces of eight samples", "meshes", ("surfaces",))
    agree = view_consistency(model.average, z, around, around.roll(1, 0))
    closed = sum(mesh.is_watertight and mesh.body_count == 1 for mesh in meshes)
    lines += [
        f"2,000 pictures of as many chairs, {seconds / 60:.0f} minutes on one core, nothing chosen: samples of the "
        f"same noise as the training goes on, another one from eight sides, and surfaces, {closed} of 8 closed and of "
        f"one piece. Between views 45 degrees apart: {agree}.",
        "",
    ]
    chairs, poses, unseen = pictures(3, 1)
    panels, found, errors = [], [], []
    behind = camera_to_world(torch.tensor([[math.pi, 0.4]]), radius=2.0)
    for chair, pose, image in zip(chairs, poses, unseen, strict=True):
        code, error = model.invert(image, pose, n_restarts=4)
        errors.append(error)
        with torch.no_grad():
            there, back = (
                model.average(code[None], at, resolution=64).images[0] for at in (pose[None], behind)
            )
        panels += [image, there, back]
        found.append(compare_meshes(model.extract_mesh(code, 64), chair.mesh()).iou)
    lines += row(
        panels[:6],
        "pictures of new chairs, what was found, and its other side",
        "inverted",
        2 * ("picture", "found", "behind"),
    )
    lines += [
        "Three chairs never seen, each found from one picture: colours differ by "
        f"{', '.join(f'{math.sqrt(e):.3f}' for e in errors)} (root of the mean square), and the surfaces found share "
        f"{', '.join(f'{iou:.2f}' for iou in found)} of their volume with the true ones (IoU).",
        "",
    ]
    return "\n".join(lines)


MEASUREMENTS = {
    one.__name__: one
    for one in (
        ambient_diffusion,
        argus3d,
        bsp_net,
        denoiser_dimension,
        diffusion_mbir,
        epigraf,
        estimators,
        few_bytes,
        groups_null,
        guidance,
        inpainting,
        latent_quantization,
        learning_rate,
        marginalization_models,
        masked_diffusion,
        mode_interpolation,
        neural_collapse,
        partitive_partitioning,
        pfgmpp,
        probability_estimation,
        retrieval_diffusion,
        samplers,
        sensitivity_sampling,
        simplex_encoding,
        supervised_dictionary,
        transductive_few_shot,
    )
}
