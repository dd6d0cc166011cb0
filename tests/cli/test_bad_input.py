"""Bad input: one clear line on stderr, exit code 2, nothing lost. One row of the table for each way to be wrong."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import broken
import pytest
from broken import array, bytes_at, caption_bytes, captions, damaged_picture, method_file, record, run_folder, table

from rsbench.cli.app import main
from rsbench.errors import BusyError
from rsbench.results.store import RunFolder


def nothing(tmp: Path) -> None:
    """The input is wrong in its words alone."""


@dataclass(frozen=True)
class Case:
    """``{t}`` in ``words`` is the folder that ``setup`` wrote into; ``says`` must be in the one line of the error."""

    words: str
    says: str
    setup: Callable[[Path], None] = nothing


PREPARE = "prepare ucm --source {t}/images --captions {t}/c.json"
ZIPPED = "prepare ucm --captions {t}/c.json --source {t}/"
NOISE = "noise rsitmd"
IMPORT = "noise rsitmd --import {t}/n"
PLAN = "plan --dataset rsitmd --backbone tiny --out {t}/results"
SREM = PLAN + " --method srem"

WORDS = [
    Case("rn", "No such command 'rn'"),
    Case("list --nope", "No such option: --nope"),
    Case("describe", "Missing argument 'name'"),
    Case("run --seeds two", "Invalid value for '--seeds'"),
    Case("list metods", "unknown kind 'metods'; did you mean methods?"),
    Case("describe sremm", "unknown name 'sremm'; did you mean srem"),
]

SOURCES = [
    Case("prepare rsicdd", "unknown dataset 'rsicdd'; did you mean rsicd"),
    Case("prepare ucm", "dataset 'ucm' has no known public download"),
    Case("prepare rsicd", "RSBENCH_OFFLINE forbids the network"),
    Case("prepare rsicd --no-download", "--no-download was given"),
    Case("prepare rsicd --image-size 0", "--image-size is 0"),
    Case("prepare rsitmd --image-size 32", "is packed at 8 px, --image-size is 32"),
    Case(ZIPPED + "none", "does not exist; give a folder", captions()),
    Case(ZIPPED + "a.bin", "is neither a folder nor a zip", broken.no_archive),
    Case(ZIPPED + "a.zip", "is a damaged or truncated zip", broken.cut_zip),
    Case(ZIPPED + "a.zip", "climbs out with '..'", broken.zip_with("../evil.png")),
    Case(ZIPPED + "a.zip", "holds an absolute path", broken.zip_with("/etc/evil.png")),
    Case(ZIPPED + "a.zip", "holds a link", broken.zip_with("evil.png", link=True)),
    Case(ZIPPED + "a.tar", "holds a device or pipe", broken.tar_with_pipe),
    Case(ZIPPED + "a.tar.gz", "is damaged, truncated or encrypted", broken.cut_targz),
    Case("prepare ucm --source {t}/images", "holds no JSON file", broken.json_files()),
    Case("prepare ucm --source {t}/images", "holds several JSON files", broken.json_files("a.json", "b.json")),
    Case("prepare ucm --source {t} --captions {t}/c.json", "give the JSON file of the captions"),
    Case(PREPARE, "1 of 3 images are missing or unreadable: port_0.png (not in folder", damaged_picture(None)),
    Case(PREPARE, "port_0.png (truncated)", damaged_picture(broken.picture(0)[:-90])),
    Case(PREPARE, "port_0.png (not a readable image)", damaged_picture(b"hello")),
    Case(PREPARE, "port_0.png (empty file)", damaged_picture(b"")),
    Case(PREPARE + " --allow-partial", "not one of its 3 images could be read", damaged_picture(b"x", 3)),
    Case(PREPARE, "is in folder images more than once", broken.twice),
]

CAPTIONS = [
    Case(PREPARE, "not UTF-8: byte 0xe9 at offset 2 (line 2)", caption_bytes(b"{\n\xe9}")),
    Case(PREPARE, "c.json: not JSON", caption_bytes(b"{")),
    Case(PREPARE, "damaged gzip file", caption_bytes(broken.gz(b"{}" * 99)[:-9])),
    Case(PREPARE, "top level: expected an object, got list", caption_bytes(b"[]")),
    Case(PREPARE, "images: expected a list, got int", caption_bytes(b'{"images": 3}')),
    Case(PREPARE, "expected a list under 'images' or lists under class names", caption_bytes(b'{"info": 3}')),
    Case(PREPARE, "c.json: holds no images", caption_bytes(b'{"images": []}')),
    Case(PREPARE, "images[0]: expected an object, got str", captions("port")),
    Case(PREPARE, "images[0]: has no 'filename'", captions(record(0, filename=None))),
    Case(PREPARE, "images[0].filename: expected text, got int", captions(record(0, filename=7))),
    Case(PREPARE, "image 'port_0.png' has no captions", captions(record(0, captions=[]))),
    Case(PREPARE, "images[0].captions[1]: empty caption", captions(record(0, captions=["a", " "]))),
    Case(PREPARE, "images[0].captions[0]: expected text, got int", captions(record(0, captions=[5]))),
    Case(PREPARE, "images[0].split: unknown split 'trian'", captions(record(0, split="trian"))),
    Case(PREPARE, "image 'port_0.png' has no 'split'", captions(record(0, split=None))),
    Case(PREPARE, "duplicated filename 'port_0.png' (images 0 and 1)", captions(record(0), record(0))),
    Case(PREPARE, "sentences[0]: has no 'raw' text", captions(record(0, captions=None, sentences=[{}]))),
    Case(
        PREPARE,
        "caption of unknown image: imgid 9, expected 0",
        captions(record(0, captions=None, imgid=0, sentences=[{"raw": "a", "imgid": 9}])),
    ),
    Case(PREPARE, "caption is not valid Unicode text", captions(record(0, captions=["\ud800"]))),
]

STORES = [
    Case(NOISE + " --rate 0.2", "has no readable dataset.json", broken.store_text("{")),
    Case(NOISE + " --rate 0.2", "has schema 99, this version reads", broken.store_json(schema=99)),
    Case(NOISE + " --rate 0.2", "tables of different lengths", broken.store_json(caption_image=[0])),
]

NOISES = [
    Case("noise rsicd --rate 0.2", "dataset 'rsicd' is not prepared under"),
    Case(NOISE, "no noise rate given"),
    Case(NOISE + " --rate 1 --source generated", "noise rate 1 is outside [0, 1)"),
    Case(NOISE + " --rate 0.3 --source official", "no official list at rate 0.3, only at 0, 0.2, 0.4, 0.6, 0.8"),
    Case(NOISE + " --rate 0.2 --source official", "names 19,305 training pairs in a fixed order"),
    Case(NOISE + " --rate 0.2 --source official --unit image", "official lists shuffle captions"),
    Case(NOISE + " --rate 0.2 --unit captoin", "unknown noise unit 'captoin'; did you mean caption"),
    Case(NOISE + " --rate 0.2 --kind shufle", "unknown noise kind 'shufle'; did you mean shuffle"),
    Case(NOISE + " --rate 0.2 --kind none", "noise kind 'none' leaves all pairs in place"),
    Case(NOISE + " --rate 0.2 --source offical", "unknown noise source 'offical'; did you mean official"),
    Case(NOISE + " --rate 0.2 --split karpathy", "has no split 'karpathy'; it has: rrsitr, official"),
    Case(NOISE + " --source file:theirs", "unknown imported noise list 'theirs'"),
    Case(NOISE + " --source file:theirs --rate 0.2", "cannot go with --source file:theirs"),
    Case(NOISE + " --rate 0.2 --name theirs", "--name keeps an imported list"),
    Case(NOISE + " --rate 0.2 --form csv", "--form is the form of the exported file"),
    Case(IMPORT + ".npy --rate 0.2", "--rate cannot go with --import"),
    Case(IMPORT + ".npy", "no such noise file"),
    Case(IMPORT + ".txt", "cannot tell the form of 'n.txt'"),
    Case(IMPORT + ".npy", "holds Python objects, which are never loaded", broken.pickled),
    Case(IMPORT + ".npy", "holds float64 values", array([0.5], "float64")),
    Case(IMPORT + ".npy", "the array has 3 entries", array([0, 1, 2])),
    Case(IMPORT + ".npy", "the array has shape [1, 2, 3]", array([[[1, 2, 3], [4, 5, 6]]])),
    Case(IMPORT + ".npy", "entry 0 names image slot 99", array([99, *range(1, 8)])),
    Case(IMPORT + ".npy", "is no shuffle of the training part", array([1, *range(1, 8)])),
    Case(IMPORT + ".npy --name a/b", "'a/b' is no name for a noise list", array(range(8))),
    Case(IMPORT + ".csv", "lacks column 'filename'", table("name,title", "x,y")),
    Case(IMPORT + ".csv", "has 1 rows, the training part has 16 pairs", table("filename,title", "port_0.png,a")),
    Case(IMPORT + ".csv", "is no image of the training part", table("filename,title", *["sea.png,a"] * 16)),
    Case(IMPORT + ".csv", "n.csv is not UTF-8", bytes_at("n.csv", b"filename,title\n\xff")),
    Case(NOISE + " --rate 0.5 --source generated --export {t}/o.npy --form pear", "unknown noise file form 'pear'"),
    Case(NOISE + " --rate 0.5 --source generated --export {t}/o.csv --form pairs", "a file that ends in .npy"),
    Case(
        NOISE + " --rate 0.5 --source generated --export {t}/o.npy --form per-image", "cannot write the per-image form"
    ),
    Case(NOISE + " --rate 0.5 --source generated --export {t}/no/o.npy", "o.npy: No such file or directory"),
]

PLANS = [
    Case(PLAN, "no method given"),
    Case(PLAN + " --method sremm", "unknown method 'sremm'; did you mean srem"),
    Case(PLAN + " --method srem:fool", "unknown variant of srem 'fool'"),
    Case(SREM + " --dataset rsitdm", "unknown dataset 'rsitdm'; did you mean rsitmd"),
    Case(SREM + " --backbone tini", "unknown backbone 'tini'; did you mean tiny"),
    Case(SREM + " --tuning heads", "unknown tuning of backbone 'tiny' 'heads'"),
    Case(SREM + " --weights hub", "unknown weights 'hub': backbone 'tiny' takes"),
    Case(SREM + " --noise 1", "--noise 1 is outside [0, 1)"),
    Case(SREM + " --noise -0.1", "--noise -0.1 is outside [0, 1)"),
    Case(SREM + " --noise half", "--noise 'half' is no number"),
    Case(SREM + " --noise ,", "--noise is empty"),
    Case(SREM + " --noise 0.3 --noise-source official", "'rsitmd' has no official list at rate 0.3"),
    Case(SREM + " --noise 0.2 --noise-kind none", "--noise 0.2 with --noise-kind none contradict"),
    Case(SREM + " --noise 0.2 --noise-seed x", "--noise-seed 'x' is neither a whole number nor per-run"),
    Case(SREM + " --noise 0.3 --noise-seed -1", "--noise-seed -1 is negative"),
    Case(SREM + " --noise 0.2 --noise-seed per-run", "an official noise list has one seed"),
    Case(SREM + " --seeds 0", "--seeds 0: at least one run seed"),
    Case(SREM + " --seeds -3", "--seeds -3: at least one run seed"),
    Case(SREM + " --seed-list 1,x", "--seed-list '1,x' holds something that is no whole number"),
    Case(SREM + " --seed-list=-1", "--seed-list '-1' needs whole numbers from 0 up"),
    Case(SREM + " --split official", "split 'official' of 'rsitmd' has no val part"),
    Case(SREM + " --recipe papr", "--recipe 'papr' is unknown"),
    Case(SREM + " --precision fp8", "--precision 'fp8' is unknown"),
    Case(SREM + " --overwrite yes", "--overwrite 'yes' is unknown"),
    Case(SREM + " --set tau", "--set 'tau' has no '='"),
    Case(SREM + " --set tau=1", "--set 'tau=1' names no scope"),
    Case(SREM + " --set methd.tau=1", "unknown scope 'methd', did you mean method?"),
    Case(SREM + " --set method.tau=", "--set 'method.tau=' has no value"),
    Case(SREM + " --set recipe.lr=1 --set recipe.lr=2", "--set recipe.lr is given twice"),
    Case(SREM + " --set recipe.ls=1", "unknown recipe field 'ls'"),
    Case(SREM + " --set recipe.epochs=many", "recipe.epochs='many' must be a whole number, for example 50"),
    Case(SREM + " --set method.tua=1", "unknown parameter of srem 'tua'"),
    Case(SREM + " --set backbone.widht=1", "unknown parameter of backbone 'tiny' 'widht'; did you mean width"),
    Case(PLAN + " --method infonce --set method.tau=hot", "infonce: tau = 'hot' is not allowed"),
    Case(SREM + " --config {t}/c.toml", "c.toml cannot be read"),
    Case(SREM + " --config {t}/c.toml", "c.toml is no TOML", bytes_at("c.toml", b"a = ")),
    Case(SREM + " --config {t}/c.toml", "unknown key in the config file 'nois'", bytes_at("c.toml", b"nois = 0.2")),
    Case(SREM + " --config {t}/c.toml", "'seeds' must be a whole number", bytes_at("c.toml", b'seeds = "two"')),
    Case(SREM + " --config {t}/c.toml", "'set' must be a table", bytes_at("c.toml", b"set = 3")),
    Case(SREM + " --config {t}/c.toml", "--noise 2 is outside [0, 1)", bytes_at("c.toml", b"noise = [0.2, 2]")),
    Case(PLAN + " --method {t}/m.py", "m.py' does not exist"),
    Case(PLAN + " --method {t}/m.py", "m.py' fails to load: SyntaxError", method_file("def")),
    Case(PLAN + " --method {t}/m.py", "must define one subclass of Method; it has none", method_file("x = 1")),
    Case(PLAN + " --method {t}/m.py:Yours", "unknown Method class in", method_file(broken.METHOD % "tokens")),
    Case(PLAN + " --method {t}/m.py", "method 'mine' needs blocks", method_file(broken.METHOD % "blocks")),
    Case("run" + SREM[4:] + " --jobs -1", "--jobs -1: give the number of worker processes"),
    Case("run" + SREM[4:] + " --jobs 1 --device moon", "--device 'moon' is no device name"),
]

AFTERWARDS = [
    Case("eval", "give folders of finished runs, or a pretrained --backbone"),
    Case("eval --backbone clip-vit-b32", "needs a dataset to score"),
    Case("eval {t}/results/run", "is no run folder (it has no spec.json)"),
    Case("eval {t}/results/run", "spec.json has version 99", run_folder(spec={"version": 99})),
    Case("eval {t}/results/run", "holds no JSON object", run_folder(spec="[1]")),
    Case("mock rlc", "unknown method 'rlc'; did you mean rcl"),
    Case("mock srem --set recipe.lr=1", "--set 'recipe.lr=1' is not understood by mock"),
]

TABLE = "table {t}/results"
FAILED = broken.failed_result()

TABLES = [
    Case(TABLE, "there is no folder '"),
    Case("table {t}/data", "no result.json below '"),
    Case(TABLE, "result.json is damaged", run_folder(result="{")),
    Case(TABLE, "result.json is not a result of rsbench", run_folder(result={"a": 1})),
    Case(TABLE, "result.json has schema 99", broken.failed_result(schema=99)),
    Case(TABLE, "result.json has a spec without 'dataset'", broken.failed_result(spec={"noise": {}})),
    Case(TABLE, "none of the 1 runs is finished", FAILED),
    Case(TABLE + " --format word", "Invalid value for '--format'"),
    Case(TABLE + " --json --format csv", "--json and --format csv exclude each other", FAILED),
    Case(TABLE + " --dataset ucm", "unknown dataset in these results 'ucm'", FAILED),
    Case(TABLE + " --method rcl", "unknown method in these results 'rcl'", FAILED),
    Case(TABLE + " --noise 0.2", "no result has noise rate '0.2'; rates there: 0.4", FAILED),
    Case(TABLE + " --sort speed", "unknown order 'speed'", FAILED),
    Case(TABLE + " --pool sede", "unknown field to pool 'sede'", FAILED),
    Case(TABLE + " --pool fingerprint", "'fingerprint' cannot be pooled", FAILED),
]

CASES = [*WORDS, *SOURCES, *CAPTIONS, *STORES, *NOISES, *PLANS, *AFTERWARDS, *TABLES]


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run words that must be refused; the error line without its ``error: ``."""
    monkeypatch.setenv("RSBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RSBENCH_OFFLINE", "1")
    broken.pack_rsitmd(tmp_path / "data")

    def run(words: str) -> str:
        capsys.readouterr()
        code = main([w.format(t=tmp_path) for w in words.split()])
        out, err = capsys.readouterr()
        assert (code, err.count("\n")) == (2, 1), out + err
        assert err.startswith("error: ")
        return err.removeprefix("error: ").strip()

    return run


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.says[:40])
def test_bad_input_is_one_clear_line(case, refused, tmp_path):
    case.setup(tmp_path)
    store = tmp_path / "data" / "datasets"
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    assert case.says in refused(case.words)
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file() and ".lock" not in p.name} == before


def test_messages_are_many_and_distinct():
    says = [c.says for c in CASES]
    assert len(says) >= 60
    assert [a for i, a in enumerate(says) for j, b in enumerate(says) if i != j and a in b] == []


def planned(tmp_path: Path, capsys) -> Path:
    """Folder of the one run that SREM would do."""
    assert main([w.format(t=tmp_path) for w in f"{SREM} --json".split()]) == 0
    return tmp_path / "results" / json.loads(capsys.readouterr().out)[0]["hash"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema": 99}', "has schema 99, this version reads up to"),
        ("{", "cannot be read"),
        ("[]", "holds no JSON object"),
    ],
)
def test_result_of_another_version_or_damaged(refused, tmp_path, capsys, content, says):
    folder = planned(tmp_path, capsys)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(content)
    assert says in refused(SREM)
    assert (folder / "result.json").read_text() == content


def test_full_disk_while_packing_leaves_nothing(refused, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    captions()(tmp_path)
    monkeypatch.setattr("rsbench.data.lifecycle.write_store", full)
    assert "disk full while packing 'ucm'" in refused(PREPARE)
    left = [p.name for p in (tmp_path / "data" / "datasets").iterdir() if "ucm" in p.name and "lock" not in p.name]
    assert left == []


def test_missing_weights_without_network_name_both_ways_out(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    line = refused("run --dataset rsitmd --method infonce --jobs 1 --device cpu --out {t}/results")
    assert "not on disk and HF_HUB_OFFLINE is set" in line
    assert "hf download" in line and "HF_HOME" in line
    assert "--weights FILE" in line
    assert "--backbone lite" in line


def test_one_run_is_worked_on_by_one_process(refused, tmp_path, capsys):
    folder = planned(tmp_path, capsys)
    with RunFolder(folder.parent, folder.name).claimed():
        with pytest.raises(BusyError, match=f"run {folder.name} is being worked on by another process"):
            RunFolder(folder.parent, folder.name).claimed().__enter__()
        assert [p.name for p in folder.iterdir()] == [".lock"]
