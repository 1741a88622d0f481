"""Discovery, running and recording, on claims written for the purpose."""

import importlib
import json
import sys
import textwrap
from importlib import metadata

import pytest
import torch

import lodim.claims
from lodim.claims import Claim, ClaimResult, find_claim, list_claims, run_claim, run_claims
from lodim.claims.machine import describe_machine, source_revision, versions
from lodim.claims.runner import evidence_path
from lodim.results.records import read_other_seeds, read_records

PREAMBLE = """
from lodim.claims.result import Claim, ClaimSkipped, Findings, check_between, check_that
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder on the search path of lodim.claims; ``workshop(module, source)`` writes a module there."""
    monkeypatch.setattr(lodim.claims, "__path__", [*lodim.claims.__path__, str(tmp_path)])
    written = []

    def write(module, source):
        (tmp_path / f"{module}.py").write_text(PREAMBLE + textwrap.dedent(source))
        written.append(f"lodim.claims.{module}")
        importlib.invalidate_caches()

    yield write
    for name in written:
        sys.modules.pop(name, None)


GOOD = """
def run(seed, progress):
    progress(1.0, "counted")
    return Findings((check_between("seed doubled", 2 * seed, 6, 6, paper=6),), {"seed": seed}, ("a note",))

CLAIM = Claim(name="test-topic/good", arxiv="0000.00000", statement="Three doubles to six.", laptop=run, fast=True)
"""


def test_a_module_with_a_claim_is_found(workshop):
    before = {claim.name for claim in list_claims()}
    workshop("zz_good", GOOD)
    workshop("zz_helper", "def run(): ...")
    found = {claim.name for claim in list_claims()}
    assert found - before == {"test-topic/good"}
    assert isinstance(find_claim("test-topic/good"), Claim)


def test_an_unknown_claim_gets_close_matches(workshop):
    workshop("zz_good", GOOD)
    with pytest.raises(ValueError, match="Did you mean 'test-topic/good'"):
        find_claim("test-topic/god")


def test_two_claims_of_one_name_are_refused(workshop):
    workshop("zz_good", GOOD)
    workshop("zz_same", GOOD)
    with pytest.raises(ValueError, match="two claims are called 'test-topic/good'"):
        list_claims()


def test_a_run_is_recorded_with_its_circumstances(workshop, tmp_path):
    workshop("zz_good", GOOD)
    seen = []
    result = run_claim("test-topic/good", seed=3, out=tmp_path, progress=lambda done, text: seen.append(text))
    assert result.verdict == "holds"
    assert seen == ["counted"]
    path = evidence_path("test-topic/good", "laptop", tmp_path, 3)
    assert path == tmp_path / "seeds" / "test-topic" / "good.laptop.3.json"
    record = json.loads(path.read_text())
    assert ClaimResult.from_dict(record).to_dict() == result.to_dict()
    assert record["command"] == "lodim claims run test-topic/good --scale laptop --seed 3"
    assert record["machine"]["cores"] >= 1
    assert {"python", "torch", "numpy", "lodim"} <= set(record["versions"])
    assert record["notes"] == ["a note"]
    assert list(path.parent.iterdir()) == [path]


def test_the_checks_decide_and_another_seed_lies_beside_the_record(workshop, tmp_path):
    workshop("zz_good", GOOD)
    found = {seed: run_claim("test-topic/good", seed=seed, out=tmp_path).verdict for seed in (0, 2, 3)}
    assert found == {0: "fails", 2: "fails", 3: "holds"}
    assert [(r.name, r.seed, r.verdict) for r in read_records(tmp_path)] == [("test-topic/good", 0, "fails")]
    others = [(r.name, r.seed, r.verdict) for r in read_other_seeds(tmp_path)]
    assert others == [("test-topic/good", 2, "fails"), ("test-topic/good", 3, "holds")]


def test_nothing_is_recorded_on_request(workshop, tmp_path, monkeypatch):
    workshop("zz_good", GOOD)
    monkeypatch.chdir(tmp_path)
    run_claim("test-topic/good", seed=3, out=None)
    assert not (tmp_path / "evidence").exists()


SKIP = """
def run(seed, progress):
    raise ClaimSkipped("needs a second moon")

CLAIM = Claim(name="test-topic/skip", arxiv="0000.00000", statement="s", laptop=run)
"""


def test_a_skipped_claim_leaves_the_record_alone(workshop, tmp_path):
    workshop("zz_skip", SKIP)
    path = evidence_path("test-topic/skip", "laptop", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("an earlier record")
    result = run_claim("test-topic/skip", out=tmp_path)
    assert (result.verdict, result.message) == ("skipped", "needs a second moon")
    assert path.read_text() == "an earlier record"


def test_a_missing_extra_or_data_set_skips(workshop, tmp_path, monkeypatch):
    workshop("zz_ray", GOOD.replace("fast=True", "needs=('rl',)"))
    real = metadata.distribution

    def found(name):
        if name == "gymnasium":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "distribution", found)
    result = run_claim("test-topic/good", out=tmp_path)
    assert result.verdict == "skipped"
    assert result.message == "gymnasium not installed: pip install 'lodim[rl]'"


def test_an_absent_data_set_skips(workshop, tmp_path, monkeypatch):
    workshop("zz_data", GOOD.replace("fast=True", "needs=('mnist',)"))

    def absent(name, **options):
        raise FileNotFoundError(f"{name} is nowhere")

    monkeypatch.setattr(lodim.datasets, "load", absent)
    result = run_claim("test-topic/good", seed=3, out=tmp_path)
    assert result.verdict == "skipped"
    assert "mnist is nowhere" in result.message
    assert not list(tmp_path.glob("claims/**/*.json"))


def test_the_full_scale_may_need_more(workshop):
    workshop("zz_full", GOOD.replace("fast=True", "full=run, full_needs=('gpu',)"))
    assert run_claim("test-topic/good", seed=3, out=None).verdict == "holds"
    if not torch.cuda.is_available():
        skipped = run_claim("test-topic/good", "full", out=None)
        assert (skipped.verdict, "is for a GPU" in skipped.message) == ("skipped", True)


BROKEN = """
def run(seed, progress):
    raise RuntimeError("could not read /some/where/deep/file.bin")

CLAIM = Claim(name="test-topic/broken", arxiv="0000.00000", statement="s", laptop=run)
"""


def test_an_exception_is_a_recorded_verdict_without_paths(workshop, tmp_path):
    workshop("zz_broken", BROKEN)
    result = run_claim("test-topic/broken", out=tmp_path)
    assert result.verdict == "error"
    assert "RuntimeError: could not read .../file.bin (zz_broken.py" in result.message
    assert (
        json.loads(evidence_path("test-topic/broken", "laptop", tmp_path).read_text())["verdict"] == "error"
    )


def test_a_claim_that_leaves_its_process_is_a_recorded_error_and_the_others_go_on(workshop, tmp_path):
    workshop("zz_good", GOOD)
    workshop("zz_leaves", BROKEN.replace("RuntimeError(", "SystemExit(").replace("broken", "leaves"))
    heard = []
    results = run_claims(["test-topic/leaves", "test-topic/good"], seed=3, out=tmp_path, on_done=heard.append)
    assert [r.verdict for r in results] == ["error", "holds"]
    assert results[0].message == "SystemExit: could not read .../file.bin"
    assert heard == results
    record = json.loads(evidence_path("test-topic/leaves", "laptop", tmp_path, 3).read_text())
    assert record["verdict"] == "error"


def test_a_claim_without_checks_is_an_error(workshop):
    workshop("zz_empty", GOOD.replace('check_between("seed doubled", 2 * seed, 6, 6, paper=6),', ""))
    assert "at least one check" in run_claim("test-topic/good", out=None).message


def test_a_scale_it_does_not_have_is_refused(workshop):
    workshop("zz_good", GOOD)
    with pytest.raises(ValueError, match="scale of test-topic/good"):
        run_claim("test-topic/good", scale="full", out=None)


def test_several_run_in_order_and_are_reported(workshop, tmp_path):
    workshop("zz_good", GOOD)
    workshop("zz_broken", BROKEN)
    seen = []
    names = ["test-topic/good", "test-topic/broken"]
    results = run_claims(names, seed=3, out=tmp_path, on_done=seen.append)
    assert [r.name for r in results] == names
    assert [r.verdict for r in results] == ["holds", "error"]
    assert seen == results


def test_fast_selects_the_marked_ones(workshop, monkeypatch):
    workshop("zz_good", GOOD)
    workshop("zz_broken", BROKEN)
    ours = [c for c in list_claims() if c.name.startswith("test-topic/")]
    monkeypatch.setattr("lodim.claims.runner.list_claims", lambda: ours)
    assert [r.name for r in run_claims(fast=True, seed=3, out=None)] == ["test-topic/good"]


def test_machine_names_no_host_user_or_folder():
    import getpass
    import platform

    text = json.dumps([describe_machine(), versions(), source_revision()])
    assert "/home" not in text
    assert platform.node() not in text
    assert f'"{getpass.getuser()}"' not in text


def test_every_shipped_claim_is_complete():
    claims = list_claims()
    for claim in claims:
        assert claim.statement.endswith(".")
        assert claim.arxiv.count(".") == 1
        assert callable(claim.laptop)
    assert len({c.name for c in claims}) == len(claims)
