"""Pages' numbers: tables and verdicts made of ``evidence/`` at every build, and measurements as they were recorded.

Each ``<name>.md`` below ``docs/generated`` is included by a page. Nothing is measured here: ``measurements.py`` is run
by ``tools/record_pages.py``, and its records lie in ``evidence/pages``.
"""

import json
from pathlib import Path

import numpy as np
from measurements import MEASUREMENTS
from tables import table

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
RECORDED = ROOT / "evidence" / "pages"
COMPARED = (("comparison/images", "from a random origin"), ("comparison/text", "from a pre-trained model"))


def verdict():
    """The quick start's command: its recorded verdict in a frame, with what the number belongs to."""
    from lodim.profiling import Profile
    from lodim.profiling.text import recipe

    answer = Profile.load_json(ROOT / "evidence" / "profiles" / "digits.json")
    asked = f"lodim profile digits --budget {answer.budget:g}s --seed {answer.seed}"
    return f":::{{container}} verdict\n{answer.verdict}\n\n*`{asked}`. {recipe(answer.landscape)}*\n:::\n"


def claims():
    from lodim.claims import evidence_page

    return evidence_page(ROOT / "evidence")


def methods():
    """The cards, area by area, and the pages of those that are written."""
    from lodim.catalog import load_cards, methods_table
    from lodim.catalog.vocabulary import AREAS

    lines = []
    for area, meaning in AREAS.items():
        cards = [card for card in load_cards() if card.area == area]
        pages = sorted(path.stem for path in (DOCS / area).glob("*.md"))
        shown = methods_table(cards)
        for page in pages:  # those of a method; it may have others beside it
            shown = shown.replace(f"| `{page}` |", f"| [`{page}`]({area}/{page}.md) |")
        lines += [f"## {area.capitalize()}", "", f"{meaning.capitalize()}.", "", shown, ""]
        if pages:
            lines += ["```{toctree}", ":maxdepth: 1", "", *(f"{area}/{page}" for page in pages), "```", ""]
    return "\n".join(lines)


def entry_points():
    """What can be used today: each method's public names, and what they cost."""
    from lodim.catalog import methods

    rows = (
        (card.slug, ", ".join(f"`{name.removeprefix('lodim.')}`" for name in card.entry_points), card.cost)
        for card in methods(status="available")
    )
    return table(("method", "public names, below `lodim`", "cost"), rows)


def _rows_of(record):
    shown = None
    for entry in record["rows"]:
        target = entry.get("target") or ""
        if entry.get("met") is not None:
            target += f": {entry['achieved']:.3g}, {'met' if entry['met'] else '**missed**'}"
        group = entry.get("group", "memory" if "mib" in entry else "")
        case, shown = ("" if group == shown else group), group
        if "mib" in entry:
            yield case, entry["name"], f"{entry['mib']:.0f} MiB", "", target
        else:
            yield case, entry["name"], f"{1e3 * entry['median_s']:.3g}", f"{entry['ratio']:.3g}", target


def benchmarks():
    files = sorted((ROOT / "evidence" / "benchmarks").glob("*.json"))
    lines = []
    for file in files:
        record = json.loads(file.read_text())
        lines += [f"### {record['benchmark']}", ""]
        head = ("case", "candidate", "median ms", "ratio of minima", "target")
        lines += [table(head, _rows_of(record)), ""]
        lines += [f"- {note}" for note in record.get("notes", [])] + [""]
        lines += [_where(record)]
    return "\n".join(lines) if lines else "No benchmark has been recorded yet.\n"


def _where(record):
    machine = record.get("machine", {})
    versions = ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items() if v)
    where = f"{machine.get('cpu')}, {machine.get('cores')} cores; {versions}"
    return f"`{record.get('command', '')}` on {record.get('date', '')}: {where}.\n"


def reliability():
    """What kills, interrupts, flipped bits and full disks did to what is stored."""
    record = json.loads((ROOT / "evidence" / "reliability" / "damage.json").read_text())
    head = ("what was done", "times", "raised", "lost", "altered", "not said", "left behind")
    rows = (
        (r["what"], *(f"{r[key]:,}" for key in ("tried", "raised", "lost", "altered", "silent", "left")))
        for r in record["rows"]
    )
    return table(head, rows) + "\n" + _where(record)


def size():
    """Seconds and memory of ``lodim profile`` by the size of the file."""
    record = json.loads((ROOT / "evidence" / "reliability" / "size.json").read_text())
    head = ("rows", "columns", "file", "MB", "rows read", "rows measured", "reading, s", "counted, s",
            "whole command, s", "most memory, MB")  # fmt: skip
    rows = (
        (f"{r['rows']:,}", r["columns"], r["file"], f"{r['file_mb']:,.4g}", f"{r['rows_read']:,}",
         f"{r['rows_measured']:,}", r["reading_s"], r["counted_s"], r["seconds"], f"{r['peak_mb']:,.0f}")
        for r in record["rows"]
    )  # fmt: skip
    return table(head, rows) + "\n" + _where(record)


def comparison():
    """Score against bytes: the recorded comparisons' pictures and tables."""
    from lodim.landscape import Comparison

    lines = []
    for name, title in COMPARED:
        file = ROOT / "evidence" / "claims" / f"{name}.laptop.json"
        if not file.exists():
            continue
        record = json.loads(file.read_text())
        for part, figures in record["figures"].items():
            found = Comparison.from_dict(figures)
            picture = f"{name.replace('/', '-')}-{part.replace(' ', '-').lower()}.svg"
            axes = found.plot()
            axes.set_title(f"{title}: {part}")
            axes.figure.savefig(GENERATED / picture)
            frame = found.to_frame()
            rows = (
                (r.way, r.setting, f"{r.bytes:,}", f"{r.score:.3f}", f"{r.low:.3f} to {r.high:.3f}", r.runs)
                for r in frame.itertuples()
            )
            head = ("way", "setting", "bytes", found.score_name, "interval", "runs")
            alt = (
                f"{found.score_name} against bytes, {title}, {part}; the same numbers are in the table below"
            )
            lines += [f"### {title}: {part}", "", f"![{alt}](../generated/{picture})", ""]
            lines += ["<details><summary>All numbers</summary>", "", table(head, rows), "</details>", ""]
    return "\n".join(lines) if lines else "No comparison has been recorded yet.\n"


def difficulty():
    """The recorded claim's draws, and how the bits go with dimension and margin."""
    import matplotlib.pyplot as plt

    from lodim.geometry import difficulty_sweep, generalization_difficulty
    from lodim.plots import new_axes

    base = generalization_difficulty(0.001, 60_000, 14, 17.179, 2.3987, n_outputs=9, n_combinations=10)
    axes = new_axes()
    for delta in (0.6, 1.2, 2.4, 4.8):
        task = type(base.task)(**{**vars(base.task), "delta": delta})
        sweep = difficulty_sweep(task, at_eps=base.eps, m=range(2, 41))
        axes.plot(sweep["m"], sweep["log10_bits"], label=f"margin {delta:g}")
    axes.plot(base.task.m, base.log10_bits, "o", color="black", label="MNIST, published constants")
    axes.set(
        xlabel="intrinsic dimension",
        ylabel="log10 of the bits",
        title="Bits of inductive bias for an error of 0.001",
    )
    axes.legend()
    axes.figure.savefig(GENERATED / "difficulty.svg")
    plt.close(axes.figure)
    alt = "the logarithm of the bits grows with the dimension, the faster the smaller the margin"
    lines = [f"![{alt}](../generated/difficulty.svg)", ""]
    file = ROOT / "evidence" / "claims" / "generalization-difficulty" / "images.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        draws = [
            (name, f"{d['m']:.2f}", f"{d['delta']:.2f}", f"{d['radius']:.2f}", f"{d['log10_bits']:.2f}",
             f"{d['interval'][0]:.1f} to {d['interval'][1]:.1f}")
            for name in ("mnist", "fashion_mnist")
            for d in figures[name]
        ]  # fmt: skip
        lines += ["Five draws of queries and pairs, 60,000 training images, error 0.001:", ""]
        lines += [table(("images", "dimension", "margin", "radius", "log10 bits", "interval"), draws), ""]
        names = ("noise columns", "log10 bits with noise", "with the margin of the noisy points")
        noise = zip(*(figures[name] for name in names))
        lines += ["10,000 digits with columns of uniform noise beside the pixels; log10 bits:", ""]
        head = ("columns", "with the margin of the digits themselves", "with the margin of the noisy points")
        lines += [table(head, [(j, f"{kept:.2f}", f"{blind:.2f}") for j, kept, blind in noise]), ""]
    return "\n".join(lines)


def sensitivity_sampling():
    """The recorded claim's draws."""
    lines = []
    file = ROOT / "evidence" / "claims" / "sensitivity-sampling" / "pooled-digits.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        shown = [
            (key, f"{f['median']:.3f}", f"{f['worst of five']:.3f}", f"{max(f['gap']):.3f}")
            for key, f in figures.items()
        ]
        lines += ["Excess of the norm over the fit on all 60,000 pooled digits:", ""]
        lines += [table(("coreset", "median", "worst of five draws", "largest certified gap"), shown), ""]
    return "\n".join(lines)


def partitive_partitioning():
    """The recorded claim's tables."""
    lines = []
    file = ROOT / "evidence" / "claims" / "partitive-partitioning" / "digits.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        head = ("method", "k", "ARI with the classes", "accuracy", "repeats over seeds", "over orders")
        for name in ("digits", "wine", "iris"):
            f = figures[name]
            said = f"**{name.capitalize()}.** {f['separable']:.0%} of the rows are separable; there the index with the "
            said += f"classes is {f['classes, separable']:.3f}, on all rows {f['classes']:.3f}."
            numbers = ("classes", "accuracy", "repeats over seeds", "repeats over orders")
            shown = [
                (
                    method,
                    ", ".join(map(str, sorted(set(m["k"])))),
                    *(f"{m[number]:.3f}" for number in numbers),
                )
                for method, m in f["methods"].items()
            ]
            lines += [said, "", table(head, shown)]
        other = figures["digits, other rows"].items()
        lines += ["Eight samples of four fifths of the digits:", ""]
        lines += [
            table(("method", "index of two", "k"), [(m, f"{f['index']:.3f}", f["k"]) for m, f in other])
        ]
        none = figures["no groups"].items()
        lines += ["Best scores of data without groups:", ""]
        lines += [table(("1000 rows", "score"), [(name, f"{score:.3f}") for name, score in none]), ""]
    return "\n".join(lines)


def denoiser_dimension():
    """The recorded claim's table."""
    lines = []
    file = ROOT / "evidence" / "claims" / "guided-diffusion" / "denoiser-dimension.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        sets = {name: one for name, one in figures.items() if "networks" in one}
        readings, near = map(tuple, ((one := next(iter(sets.values())))["networks"][0], one["neighbours"]))

        def told(runs, reading):
            return ", ".join(f"{r[reading]['dimension']:.1f}" + "?" * r[reading]["refused"] for r in runs)

        rows = [
            (name, one["truth"] or "", *(told(one["networks"], r) for r in readings),
             *(f"{one['neighbours'][m]:.1f}" for m in near))
            for name, one in sets.items()
        ]  # fmt: skip
        lines += [
            "Two trainings each, and estimators from neighbours; ? where the answer says it cannot tell:",
            "",
        ]
        lines += [table(("data", "truth", *readings, *near), rows), ""]
    return "\n".join(lines)


def pfgmpp():
    """The recorded claim's distances under disturbed sampling."""
    from lodim.plots import new_axes

    lines = []
    file = ROOT / "evidence" / "claims" / "pfgmpp" / "robustness.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        means = {D: {k: float(np.mean(v)) for k, v in f.items()} for D, f in figures["distances"].items()}
        disturbed = [what for what in next(iter(means.values())) if what.startswith("noise")]
        axes = new_axes()
        for D, mean in means.items():
            axes.plot(
                [float(w.split()[1]) for w in disturbed], [mean[w] for w in disturbed], "o-", label=f"D = {D}"
            )
        axes.set(xlabel="injected noise over the level", ylabel="fd_classifier", title="Digits, 18 steps")
        axes.legend()
        alt = "distances grow with the injected noise, the less the smaller D; the numbers are in the table"
        lines += [_saved(axes, "pfgmpp-noise.svg", alt), ""]
        head = ("D", *next(iter(means.values())))
        lines += [table(head, ((D, *(f"{v:.3g}" for v in mean.values())) for D, mean in means.items())), ""]
        lines += [f"The training images themselves are at {figures['training images']:.3g}.", ""]
    return "\n".join(lines)


def ambient_diffusion():
    """What the recorded claims measured."""
    from lodim.plots import new_axes

    lines = []
    folder = ROOT / "evidence" / "claims" / "ambient-diffusion"
    if (file := folder / "digits.laptop.json").exists():
        figures = json.loads(file.read_text())["figures"]
        rows = [
            (arm, *(f"{np.mean(of[name]):.3g}" for name in ("distance", "gap", "nearer to training")))
            for arm, of in figures["arms"].items()
        ]
        head = ("digits, noise 0.2", "fd_classifier", "memorisation gap", "nearer to training")
        lines += [table(head, rows), "", f"The test images' halves are {figures['floor']:.2g} apart.", ""]
    if (file := folder / "gaussians.laptop.json").exists():
        errors = json.loads(file.read_text())["figures"]["errors"]
        axes = new_axes()
        for what in (
            "direct, all noisy",
            "direct, 5 % clean",
            "two-stage, 5 % clean",
            "scikit-learn, 5 % clean",
        ):
            ratio = [row[what] / row[f"known components, {what.split(', ')[1]}"] for row in errors.values()]
            axes.loglog([float(noise) for noise in errors], ratio, "o-", label=what)
        axes.set(xlabel="noise (means are 3 apart)", ylabel="error over that of known components")
        axes.legend()
        alt = "without clean samples the ratio rises steeply with the noise; with 5 % clean ones it stays near 1"
        lines += [_saved(axes, "ambient-gaussians.svg", alt), ""]
    return "\n".join(lines)


def _saved(axes, name, alt):
    """Keep a picture, and return the line that shows it."""
    import matplotlib.pyplot as plt

    axes.figure.savefig(GENERATED / name)
    plt.close(axes.figure)
    return f"![{alt}](../generated/{name})"


def diffusion_mbir():
    """The recorded claims' tables."""
    lines = []
    for claim, title in (
        ("sparse-view", "Digits from few views"),
        ("limited", "An arc, frequencies, ellipsoids"),
    ):
        file = ROOT / "evidence" / "claims" / "diffusion-mbir" / f"{claim}.laptop.json"
        if not file.exists():
            continue
        keys = ("PSNR", "SSIM axial", "SSIM coronal", "SSIM sagittal", "roughness ratio", "residual")
        for case, rows in json.loads(file.read_text())["figures"].items():
            lines += [f"{title}, {case} (`diffusion-mbir/{claim}`):", ""]
            shown = ((name, *(f"{row[key]:.3g}" for key in keys)) for name, row in rows.items())
            lines += [table(("method", *keys), shown), ""]
    return "\n".join(lines)


def mode_interpolation():
    """The recorded claims' figures."""
    lines = []
    claims = ROOT / "evidence" / "claims" / "mode-interpolation"
    if (claims / "grid.laptop.json").exists():
        figures = json.loads((claims / "grid.laptop.json").read_text())["figures"]
        scores = (
            (name, f"{figures['areas'][name]:.3f}", f"{share:.1%}")
            for name, share in figures["removed"].items()
        )
        lines += [
            "40,000 samples of a network trained on 100,000 points, window and threshold from others:",
            "",
        ]
        lines += [table(("score", "area under the curve", "removed at 96 % kept"), scores), ""]
    for claim, what in (
        ("recursion", "Models trained on models' samples, a fifth of which is dropped: the grid."),
        ("mnist", "The same on MNIST, averaged to 14 x 14 pixels."),
    ):
        if not (claims / f"{claim}.laptop.json").exists():
            continue
        figures = json.loads((claims / f"{claim}.laptop.json").read_text())["figures"]
        head = ("dropped", "figure", *(f"generation {g}" for g in range(len(figures["random"]["distance"]))))
        rows = [
            (way, name, *(f"{v:.3g}" for v in values))
            for way, of in figures.items()
            if isinstance(of, dict) and "distance" in of
            for name, values in of.items()
        ]
        lines += [what, "", table(head, rows), ""]
    return "\n".join(lines)


def retrieval_diffusion():
    """The recorded claim's figures."""
    lines = []
    file = ROOT / "evidence" / "claims" / "retrieval-diffusion" / "digits.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        near = figures["nearest item: median distance, share of copies"]
        rows = [
            (name, f"{np.mean(values):.3g}", f"{near[name][0]:.3g}", f"{near[name][1]:.1%}")
            for name, values in figures["fd_classifier"].items()
        ]
        rows.append(("(test images)", "", f"{near['test images'][0]:.3g}", f"{near['test images'][1]:.1%}"))
        head = (
            "trained with",
            "fd_classifier",
            "median distance to the nearest item",
            "nearer than 99 % of real",
        )
        lines += [
            "The same network and steps, digits 0 to 9 (the recorded claim):",
            "",
            table(head, rows),
            "",
        ]
        for what, curve in figures["curves"].items():
            names = ("precision", "recall", "distance", "copies")
            values = zip(curve[what], *(curve[name] for name in names), strict=True)
            rows = [(f"{value:g}", *(f"{number:.3g}" for number in numbers)) for value, *numbers in values]
            lines += [table((what, *names), rows), ""]
    return "\n".join(lines)


def novel_class_discovery():
    """The recorded claims' accuracies, side by side."""
    found = {}
    for name, part in (("digits", "unlabelled rows"), ("nuisance", "accuracy")):
        file = ROOT / "evidence" / "claims" / "novel-class-discovery" / f"{name}.laptop.json"
        if file.exists():
            found[name] = json.loads(file.read_text())["figures"]
            found[name]["table"] = {
                method: f"{f['mean']:.2f} ± {f['sd']:.2f}" for method, f in found[name][part].items()
            }
    if len(found) < 2:
        return "No claim has been recorded yet.\n"
    tables = [figures["table"] for figures in found.values()]
    methods_ = list(dict.fromkeys(name for one in tables for name in one if name != "w chosen"))
    shown = [(name, *(one.get(name, "") for one in tables)) for name in methods_]
    counts = ("counted in the raw space", "counted")
    raw, latent = (", ".join(map(str, found["digits"][key])) for key in counts)
    return (
        "Accuracy on unlabelled rows, mean and standard deviation over seeds; five classes are known, five novel:\n\n"
        f"{table(('method', 'digits', 'nuisance'), shown)}\n"
        f"The number of novel digits (five), counted in the raw space: {raw}; in the latent space: {latent}.\n"
    )


def supervised_dictionary():
    """The recorded claims' tables."""
    lines = []
    folder = ROOT / "evidence" / "claims" / "supervised-dictionary"
    if (file := folder / "digits.laptop.json").exists():
        figures = json.loads(file.read_text())["figures"]
        accuracy, error = figures["accuracy"], figures["reconstruction error"]
        rows = [
            (name, f"{np.mean(values):.3f}", f"{np.mean(error[name]):.3f}" if name in error else "")
            for name, values in accuracy.items()
        ]
        lines += [
            "MNIST 4 and 9, 784 pixels, 1,000 training and 1,900 test images, means of three splits:",
            "",
        ]
        lines += [
            table(("factors, then logistic regression", "test accuracy", "share not rebuilt"), rows),
            "",
        ]
    if (file := folder / "covariates.laptop.json").exists():
        figures = json.loads(file.read_text())["figures"]
        rows = [(name, f"{value:.3f}") for name, value in figures["tumours"].items()]
        lines += ["breast_cancer, means over fifty folds:", "", table(("two atoms", "held out"), rows), ""]
        names = list(figures["angles"]["0"])
        rows = [(angle, *(f"{one[name]:.3f}" for name in names)) for angle, one in figures["angles"].items()]
        lines += [
            "Simulated: the label's direction at an angle to what reconstructs best, test accuracy:",
            "",
        ]
        lines += [table(("degrees", *names), rows), ""]
        recovery = figures["recovery"]
        names = [name for name in recovery if name != "n"]
        rows = [(n, *(f"{recovery[name][i]:.3g}" for name in names)) for i, n in enumerate(recovery["n"])]
        lines += [
            "Simulated: root-mean-square errors of planted coefficients (atoms: sine of the angle):",
            "",
        ]
        lines += [table(("samples", *names), rows), ""]
    return "\n".join(lines)


def latent_quantization():
    """The recorded claim's table for MNIST."""
    lines = []
    file = ROOT / "evidence" / "claims" / "latent-quantization" / "headline.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        for name in (name for name in figures if "report" in figures[name]):
            found = figures[name]["report"]
            head = ("MNIST, " + name, *found["defences"])
            rows = [
                (threat, *(f"{value:.3f}" for value in values))
                for threat, values in zip(found["threats"], found["accuracy"])
            ]
            rows.append(("worst of all", *(f"{found['worst'][one]:.3f}" for one in found["defences"])))
            lines += ["", table(head, rows)]
    return "\n".join([*lines, ""])


def neural_collapse():
    """The recorded claim's lengths on MNIST."""
    lines = []
    file = ROOT / "evidence" / "claims" / "neural-collapse" / "mnist.laptop.json"
    if file.exists():
        for name, found in json.loads(file.read_text())["figures"].items():
            head = ("samples", "row, measured", "predicted", "class mean, measured", "predicted")
            lengths = zip(range(500, 0, -50), *found["lengths of rows"], *found["lengths of means"])
            lines += [
                f"MNIST, {name}:",
                "",
                table(head, [(n, *(f"{v:.3f}" for v in each)) for n, *each in lengths]),
            ]
    return "\n".join(lines)


def transductive_few_shot():
    """The recorded claims' tables."""
    lines = []
    folder = ROOT / "evidence" / "claims" / "transductive-few-shot"
    if (file := folder / "digits.laptop.json").exists():
        figures = json.loads(file.read_text())["figures"]
        found = figures.pop("lambda found on clothes")
        names = list(figures["pooled, 1-shot"])
        rows = [
            (name, *("{:.1f} ± {:.1f}".format(*one[name]) if name in one else "" for one in figures.values()))
            for name in names
        ]
        lines += [
            "MNIST digits by features of a network that was trained on clothes, five classes an episode, accuracy in % "
            f"(lambda found on clothes: {', '.join(f'{value:g} for {name}' for name, value in found.items())}):",
            "",
            table(("method", *figures), rows),
            "",
        ]
    if (file := folder / "clustering.laptop.json").exists():
        figures = json.loads(file.read_text())["figures"]["ARI and accuracy"]
        rows = [(name, f"{ari:.3f}", f"{accuracy:.3f}") for name, (ari, accuracy) in figures.items()]
        what = (
            "Clusters of scikit-learn's digits without labels, means of ten starts (the last three: one run):"
        )
        lines += [what, "", table(("method", "ARI", "accuracy"), rows), ""]
    return "\n".join(lines)


def invariance_certificates():
    """How many environments the modes need; and the recorded claim's violations and groups of patients."""
    from lodim.trust import polynomial_dimension, required_environments

    cases = {
        "one site of in-degree 1": {"in_degrees": (1,)},
        "one site of in-degree 2": {"in_degrees": (2,)},
        "two sites of in-degree 2": {"in_degrees": (2, 2)},
        "no model, 5 columns": {"n_columns": 5},
        "no model, 20 columns": {"n_columns": 20},
    }
    deltas = (0.2, 0.1, 0.05)
    rows = [("held out", "", *(required_environments(delta) for delta in deltas))]
    for name, given in cases.items():
        D = polynomial_dimension(**given)
        needed = [required_environments(delta, mode="learned", dimension=D) for delta in deltas]
        rows.append((f"learnt, {name}", f"{D:,}", *(f"{m:,}" for m in needed)))
    head = ("environments, none of which violates", "D", *(f"delta = {delta}" for delta in deltas))
    lines = [table(head, rows), ""]
    file = ROOT / "evidence" / "claims" / "invariance-certificates" / "environments.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        seen = figures["violations"]
        names = list(next(iter(seen.values())))
        rows = [(n, *(f"{one[name]:.3f}" for name in names)) for n, one in seen.items()]
        lines += [
            "Share of 500 new environments in which a head learnt from m others exceeds the largest gradient among "
            "these, means of 20 random models:",
            "",
            table(("model", *names), rows),
            "",
        ]
        rows = [(name, f"{g:.3f}") for name, g in figures["diabetes"]["gradients"].items()]
        lines += [
            "Diabetes data, one least-squares head for eight groups of patients, columns and progression standardised:",
            "",
            table(("group", "length of the gradient"), rows),
        ]
    return "\n".join(lines)


def probability_estimation():
    """The recorded claims' tables."""
    lines = []
    folder = ROOT / "evidence" / "claims" / "probability-estimation"
    for name, what in (("rotated-digits", "z itself"), ("discrete", "five steps")):
        if not (file := folder / f"{name}.laptop.json").exists():
            continue
        record = json.loads(file.read_text())
        found = record["figures"]["mean of seeds"]
        rows = [
            (method, *(f"{of[k]:.4f}" for k in ("mse_p", "brier", "ece", "ks")))
            for method, of in found.items()
        ]
        lines += [f"Rotated digits, probabilities {what}, means of seeds:", ""]
        lines += [table(("method", "MSE_p", "Brier", "ECE", "KS"), rows), *record["notes"], ""]
    return "\n".join(lines)


def filling_gaps():
    """The recorded claim's tables."""
    lines = []
    file = ROOT / "evidence" / "claims" / "masked-diffusion" / "table.laptop.json"
    if file.exists():
        figures = json.loads(file.read_text())["figures"]
        named = {
            "ours": "masked diffusion, likeliest", "ours, drawn": "masked diffusion, drawn",
            "most frequent": "most frequent (median)", "independent": "columns alone",
            "forest": "IterativeImputer, forest", "ridge": "IterativeImputer, default",
        }  # fmt: skip
        titles = {"bfi": "Twenty survey answers, 1 to 6", "ames": "Twenty nominal columns of houses"}
        for name, title in titles.items():
            found = figures[name]
            measures = [what for what in ("accuracy", "levels off", "log score") if what in found]
            methods = dict.fromkeys(method for what in measures for method in found[what]["of"])
            rows = []
            for method in methods:
                cells = []
                for what in measures:
                    own, ahead = found[what]["of"].get(method), found[what]["ours less"].get(method)
                    cells.append("" if own is None else f"{own[0]:.3f}")
                    cells.append("" if ahead is None else f"{ahead[0]:+.3f} ± {ahead[1]:.3f}")
                rows.append((named[method], *cells))
            head = [part for what in measures for part in (what, "likeliest less this")]
            lines += [f"**{title}**, {found['rows']:,} rows, {found['hidden cells']:,} hidden cells:", ""]
            lines += [table(("method", *head), rows), ""]
        said = "± is one standard error, over rows. Accuracy and log score (nats a cell) are better if larger, levels "
        lines += [said + "off (mean distance, guesses being medians where there is a law) if smaller.", ""]
    return "\n".join(lines)


def masked_diffusion():
    """What the recorded claims measured."""
    lines = []
    folder = ROOT / "evidence" / "claims" / "masked-diffusion"
    told = {"text": "1,000 samples of each sampler", "precision": "2,000 samples of 64 ancestral steps"}
    for name, title in told.items():
        if (file := folder / f"{name}.laptop.json").exists():
            judged = json.loads(file.read_text())["figures"]["judged"]
            rows = [
                (way, *(f"{of[what]:.3f} ± {of[what + '_se']:.3f}" for what in ("perplexity", "entropy")))
                for way, of in judged.items()
            ]
            lines += [table((title, "trigram perplexity", "entropy, nats"), rows), ""]
    return "\n".join(lines)


def marginalization_models():
    """What the recorded claims measured on data."""
    lines = []
    folder = ROOT / "evidence" / "claims" / "marginalization-models"
    told = {
        "binary-mnist": ("Digits of 14 x 14 binary pixels", "pixels", "bits a pixel"),
        "molecules": ("Strings of MOSES", "tokens", "bits a character"),
    }
    for name, (title, units, bits) in told.items():
        if not (file := folder / f"{name}.laptop.json").exists():
            continue
        figures = json.loads(file.read_text())["figures"]
        alone = figures[f"Spearman of independent {units} by share observed"]
        away = figures["mean difference by share observed, nats"]
        rows = [
            (f"{float(share):.0%}", f"{found:.3f}", f"{alone[share]:.3f}", f"{away[share]:+.2f}")
            for share, found in figures["Spearman by share observed"].items()
        ]
        head = ("observed", "rank correlation", f"of {units} alone", "mean less chains, nats")
        said = ", ".join(f"{way} {found:.3f}" for way, found in figures[bits].items())
        lines += [f"**{title}**, held out: one call beside chains along five orders.", ""]
        lines += [table(head, rows), "", f"{bits.capitalize()}: {said}.", ""]
        if "samples" in figures:
            lines += [f"Samples: {figures['samples']}. For more of them, train for longer than minutes.", ""]
    return "\n".join(lines)


def _checks(slug):
    """What the claims of a method were held to."""
    rows = []
    for file in sorted((ROOT / "evidence" / "claims" / slug).glob("*.laptop.json")):
        for check in json.loads(file.read_text())["checks"]:
            expected = check["expected"]
            told = f"{expected[0]:g} to {expected[1]:g}" if isinstance(expected, list) else expected
            ours = f"{check['ours']:.3g}" if isinstance(check["ours"], float) else check["ours"]
            rows.append(
                (file.name.split(".")[0], check["what"], ours, told, "" if check["passed"] else "**missed**")
            )
    return table(("claim", "measured", "ours", "expected beforehand", ""), rows)


def simplex_encoding():
    """What the recorded claims measured."""
    return _checks("simplex-encoding")


def bsp_net():
    """What the recorded claims measured."""
    return _checks("bsp-net")


def argus3d():
    """What the recorded claims measured."""
    return _checks("argus3d")


def epigraf():
    """What the recorded claims measured."""
    return _checks("epigraf")


PAGES = (
    verdict, methods, entry_points, claims, benchmarks, reliability, size, comparison, difficulty,
    novel_class_discovery, invariance_certificates, filling_gaps,
)  # fmt: skip
# what the claims' records add below a measurement
BELOW = (
    ambient_diffusion, argus3d, bsp_net, denoiser_dimension, diffusion_mbir, epigraf, latent_quantization,
    marginalization_models, masked_diffusion, mode_interpolation, neural_collapse, partitive_partitioning, pfgmpp,
    probability_estimation, retrieval_diffusion, sensitivity_sampling, simplex_encoding, supervised_dictionary,
    transductive_few_shot,
)  # fmt: skip


def recorded(name):
    """A measurement as it was recorded, its pictures put where the pages find them, and where it was made."""
    file = RECORDED / f"{name}.json"
    if not file.exists():
        raise RuntimeError(f"the measurement {name} is not recorded: python tools/record_pages.py {name}")
    record = json.loads(file.read_text(encoding="utf-8"))
    text = (RECORDED / f"{name}.md").read_text(encoding="utf-8")
    for picture in record["pictures"]:
        _put(GENERATED / picture, (RECORDED / picture).read_bytes())
        text = text.replace(f"]({picture})", f"](../generated/{picture})")
    return f"{text.rstrip()}\n\n:::{{container}} record\n{_where(record)}:::\n"


def _put(path, content):
    """Write what has changed only: Sphinx reads again what is newer than it was."""
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def write_pages(app):
    GENERATED.mkdir(exist_ok=True)
    below = {page.__name__: page for page in BELOW}
    texts = {page.__name__: page for page in PAGES} | {
        name: lambda name=name: "\n".join([recorded(name), *([below[name]()] if name in below else [])])
        for name in MEASUREMENTS
    }
    for name, text in texts.items():
        _put(GENERATED / f"{name}.md", text().encode())


def setup(app):
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
