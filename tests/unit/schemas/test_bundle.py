"""The model bundle: written bundles are read back, and manipulated ones are rejected before unpickling."""

import json
import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support import bundles
from support.events import GOOD_FEATURES

from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.inputs import EventMapping, Feature
from schemas.bundle.manifest import BundleError, Golden, Libraries, manifest_bytes, parse_manifest
from schemas.task import Multiclass
from scorer.model import _estimator, load


@pytest.fixture(scope="module")
def estimator():
    """One fitted pipeline for all of these tests."""
    return bundles.fitted()


@pytest.fixture
def bundle(tmp_path, estimator):
    """A good bundle on disk."""
    bundles.write(tmp_path / "model", estimator)
    return tmp_path / "model"


def _edit(bundle, **changes):
    """Change the manifest as a person with an editor would."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.update(changes)
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not ...}))


def _refused(bundle, key=None):
    """The one line with which the bundle is refused."""
    with pytest.raises(BundleError) as caught:
        load(bundle, key)
    line = str(caught.value)
    assert line
    assert len(line.splitlines()) == 1
    return line


def test_a_written_bundle_is_read_back(bundle, estimator):
    """The manifest with every field, and the bytes of every file."""
    read = read_bundle(bundle)
    expected = bundles.manifest(estimator, files=read.manifest.files)
    assert read.manifest == expected
    assert set(read.files) == {"model.joblib", "reference.npz"}
    assert read.files["reference.npz"] == bundles.reference().to_bytes()
    assert not read.signed
    assert sorted(p.name for p in bundle.iterdir()) == ["manifest.json", "model.joblib", "reference.npz"]


def test_the_manifest_has_the_contracts_fields(bundle):
    """`from` and `scikit-learn` are written under their own names; every other file has its hash and size."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert {"name", "version", "created_at", "files", "libraries", "features", "event", "positive_class"} < set(
        manifest
    )
    assert {"threshold", "training_data", "metrics", "golden", "self_check"} < set(manifest)
    assert manifest["libraries"].keys() == {"python", "numpy", "scikit-learn"}
    assert manifest["files"].keys() == {"model.joblib", "reference.npz"}
    assert manifest["files"]["model.joblib"]["size"] == (bundle / "model.joblib").stat().st_size
    assert manifest["golden"]["tolerance"] == 1e-9
    assert manifest["features"][0] == {"name": "tenure", "kind": "numeric", "min": 0.0, "max": 120.0, "nullable": False}
    named = bundles.manifest(bundles.fitted(), features=[Feature(name="a", kind="numeric", **{"from": "b"})])
    assert json.loads(manifest_bytes(named))["features"][0]["from"] == "b"
    assert parse_manifest(manifest_bytes(named)) == named


def test_a_good_bundle_gives_its_golden_probability(bundle, estimator):
    """The loaded model answers as the estimator did when the bundle was made."""
    model = load(bundle, None)
    row = bundles.LAYOUT.columns([[GOOD_FEATURES[name]] for name in bundles.LAYOUT.names])
    assert abs(model.predict(row)[0] - estimator.predict_proba(row.frame())[0, 1]) <= 1e-12
    assert model.manifest.version == "1.4.0"


@pytest.mark.parametrize("positive", ["Yes", "No"])
def test_the_probability_is_the_positive_classs(tmp_path, estimator, positive):
    """Whichever of the two classes it is."""
    row = bundles.LAYOUT.columns([[GOOD_FEATURES[name]] for name in bundles.LAYOUT.names])
    expected = float(estimator.predict_proba(row.frame())[0, ["No", "Yes"].index(positive)])
    golden = Golden(rows=(GOOD_FEATURES,), probabilities=(expected,))
    bundles.write(tmp_path, estimator, positive_class=positive, golden=golden)
    assert load(tmp_path, None).predict(row)[0] == pytest.approx(expected, abs=1e-12)


def test_writing_replaces_the_manifest_last_and_drops_an_old_signature(bundle, estimator):
    """A reader that polls the manifest never sees one that promises files which are not there yet."""
    before = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.sig").write_bytes(b"x" * 64)
    with pytest.raises(FileNotFoundError):
        write_bundle(bundle, bundles.manifest(estimator), {"model.joblib": b"new", "no/such/directory": b""})
    assert (bundle / "manifest.json").read_bytes() == before
    assert not (bundle / "manifest.sig").exists()
    assert _refused(bundle).startswith("model.joblib: 3 bytes, expected ")
    bundles.write(bundle, estimator, version="1.5.0")
    assert load(bundle, None).manifest.version == "1.5.0"


# --- what was tampered with -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "model.joblib", "reference.npz"])
def test_a_missing_file_is_named(bundle, name):
    """With its path, so that a wrong mount is seen."""
    (bundle / name).unlink()
    assert _refused(bundle) == f"{bundle / name}: No such file or directory"


def test_a_missing_directory_is_named(tmp_path):
    """As a missing manifest."""
    assert _refused(tmp_path / "nowhere") == f"{tmp_path}/nowhere/manifest.json: No such file or directory"


@pytest.mark.parametrize("name", ["model.joblib", "reference.npz"])
def test_a_truncated_or_grown_file_is_named_with_both_sizes(bundle, name):
    """By its size alone."""
    good = (bundle / name).read_bytes()
    for bad in (good[:-1], good + b"\n", b""):
        (bundle / name).write_bytes(bad)
        assert _refused(bundle) == f"{name}: {len(bad)} bytes, expected {len(good)} by the manifest"


@pytest.mark.parametrize("name", ["model.joblib", "reference.npz"])
@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_flipped_bit_is_found(bundle, name, at):
    """Anywhere in a file of the right size."""
    damaged = bytearray((bundle / name).read_bytes())
    damaged[at] ^= 1
    (bundle / name).write_bytes(damaged)
    assert _refused(bundle) == f"{name}: sha256 differs from the manifest's"


def test_the_hash_and_size_in_the_manifest_count(bundle):
    """A manifest that promises another hash, another size or no such things."""
    good = json.loads((bundle / "manifest.json").read_text())["files"]
    entry = good["model.joblib"]
    _edit(bundle, files={**good, "model.joblib": {**entry, "sha256": "0" * 64}})
    assert _refused(bundle) == "model.joblib: sha256 differs from the manifest's"
    _edit(bundle, files={**good, "model.joblib": {**entry, "size": entry["size"] + 1}})
    assert _refused(bundle).startswith("model.joblib: ")
    for bad in ({**entry, "sha256": entry["sha256"].upper()}, {**entry, "size": -1}, {"size": entry["size"]}, None):
        _edit(bundle, files={**good, "model.joblib": bad})
        assert _refused(bundle).startswith("manifest.json: files.model.joblib")


@pytest.mark.parametrize(
    "name", ["../x", "../../etc/passwd", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a\\b", "a\n", "é", "x" * 129]
)
def test_only_plain_file_names_are_read(bundle, name):
    """A manifest cannot make the reader leave the bundle's directory, even with the right hash."""
    (bundle.parent / "x").write_bytes(b"secret")
    secret = {"sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "size": 6}
    good = json.loads((bundle / "manifest.json").read_text())["files"]
    _edit(bundle, files={**good, name: secret})
    assert _refused(bundle) == f"manifest.json: files: {name!r} is not a plain file name"


@pytest.mark.parametrize("name", ["model.joblib", "reference.npz"])
def test_the_manifest_must_list_model_and_reference(bundle, name):
    """An unlisted model would be one without a hash."""
    good = json.loads((bundle / "manifest.json").read_text())["files"]
    _edit(bundle, files={other: entry for other, entry in good.items() if other != name})
    assert _refused(bundle) == f"manifest.json: files: {name} is not listed"


def test_a_file_beyond_the_cap_is_not_read(bundle, monkeypatch):
    """The cap holds before any hash is computed."""
    monkeypatch.setattr("schemas.bundle.files.MAX_FILE_BYTES", 100)
    assert _refused(bundle) == f"{bundle}/model.joblib: larger than 100 bytes"
    monkeypatch.setattr("schemas.bundle.files.MAX_MANIFEST_BYTES", 10)
    assert _refused(bundle) == f"{bundle}/manifest.json: larger than 10 bytes"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"format": 2}, "manifest.json: format: "),
        ({"format": ...}, None),
        ({"libraries": ...}, "manifest.json: libraries: Field required"),
        ({"golden": ...}, "manifest.json: golden: Field required"),
        ({"positive_class": None}, "manifest.json: positive_class"),
        ({"surprise": 1}, "manifest.json: surprise: Extra inputs are not permitted"),
        ({"threshold": 1.01}, "manifest.json: threshold: "),
        ({"threshold": -0.1}, "manifest.json: threshold: "),
        ({"name": "Churn Telco"}, "manifest.json: name: "),
        ({"name": "x" * 65}, "manifest.json: name: "),
        ({"version": "1.4"}, "manifest.json: version: "),
        ({"version": "v1.4.0"}, "manifest.json: version: "),
        ({"version": "1.4.0\n"}, "manifest.json: version: "),
        ({"version": "\u0661.\u0664.\u0660"}, "manifest.json: version: "),
        ({"version": "1.4.0-rc.1+build.5"}, None),
        ({"features": []}, "manifest.json: features: "),
        ({"event": {"where": "x"}}, "manifest.json: event.where: "),
        ({"created_at": "yesterday"}, "manifest.json: created_at: "),
    ],
)
def test_a_manifest_that_is_not_of_format_1_is_refused(bundle, change, line):
    """The first field that is wrong is named; unknown ones are wrong, too."""
    _edit(bundle, **change)
    if line is None:
        load(bundle, None)
    else:
        assert _refused(bundle).startswith(line)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"\x80\x04."])
def test_a_manifest_that_is_no_json_object_is_refused(bundle, content):
    """Also an empty one, as a disk that was full leaves it."""
    (bundle / "manifest.json").write_bytes(content)
    assert _refused(bundle).startswith("manifest.json: top level: ")


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ({"kind": "text"}, "features.0.kind: "),
        ({"kind": "numeric", "min": 2, "max": 1}, "min is above max"),
        ({"kind": "numeric", "min": float("nan")}, "features.0.min: "),
        ({"kind": "numeric", "max": float("inf")}, "features.0.max: "),
        ({"kind": "numeric", "categories": ["a"]}, "only a categorical feature has categories"),
        ({"kind": "boolean", "min": 0}, "only a numeric feature has min and max"),
        ({"kind": "categorical"}, "needs its categories"),
        ({"kind": "categorical", "categories": ["a", "b", "a"]}, "a category is listed twice"),
        ({"kind": "numeric", "name": ""}, "features.0.name: "),
    ],
)
def test_a_feature_that_contradicts_itself_is_refused(bundle, feature, words):
    """Bounds in the wrong order would refuse every customer; a category twice would have two codes."""
    _edit(bundle, features=[{"name": "x", **feature}])
    assert words in _refused(bundle)


def test_features_of_one_name_are_refused(bundle):
    """One name for two columns, or one place in the event for two features."""
    _edit(bundle, features=[{"name": "x", "kind": "numeric"}, {"name": "x", "kind": "boolean"}])
    assert _refused(bundle) == "manifest.json: top level: Value error, features: name used twice: x"
    _edit(bundle, features=[{"name": "x", "kind": "numeric"}, {"name": "y", "from": "x", "kind": "boolean"}])
    assert _refused(bundle) == "manifest.json: top level: Value error, features: source used twice: x"


@pytest.mark.parametrize(
    "change",
    [
        {"event": EventMapping(event_id="x", customer_id="x")},
        {"event": EventMapping(event_id="features.tenure")},
    ],
)
def test_a_manifest_with_which_no_event_can_be_read_is_refused(tmp_path, estimator, change):
    """Two parts of an event in one place."""
    bundles.write(tmp_path, estimator, **change)
    assert _refused(tmp_path).startswith("manifest.json: no event can be read with it: ")


# --- the signature --------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path):
    """A signing function and the path of its public key."""
    private = Ed25519PrivateKey.generate()
    public = tmp_path / "key.pem"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign(bundle):
        (bundle / "manifest.sig").write_bytes(private.sign((bundle / "manifest.json").read_bytes()))

    return sign, public


def test_a_signed_bundle_is_accepted_by_its_key_only(bundle, keys):
    """Ed25519 over the manifest's bytes; without a key the signature is not looked at."""
    sign, public = keys
    sign(bundle)
    assert load(bundle, public).signed
    assert not load(bundle, None).signed
    other = Ed25519PrivateKey.generate().public_key()
    public.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert _refused(bundle, public) == "manifest.sig: not a signature of manifest.json by MODEL_PUBLIC_KEY"


def test_an_unsigned_bundle_is_refused_where_a_key_is_set(bundle, keys):
    """A missing signature is no signature."""
    assert _refused(bundle, keys[1]) == "manifest.sig: missing, and MODEL_PUBLIC_KEY requires a signed bundle"


@pytest.mark.parametrize("signature", [b"", b"x" * 64, b"x" * 63, b"x" * 4096])
def test_what_is_no_signature_is_refused(bundle, keys, signature):
    """Empty, random, too short, too long."""
    (bundle / "manifest.sig").write_bytes(signature)
    assert _refused(bundle, keys[1]) == "manifest.sig: not a signature of manifest.json by MODEL_PUBLIC_KEY"


def test_a_signature_does_not_cover_another_manifest(bundle, keys):
    """One space more in the manifest, and nothing in it may be believed."""
    sign, public = keys
    sign(bundle)
    with (bundle / "manifest.json").open("ab") as manifest:
        manifest.write(b" ")
    assert _refused(bundle, public) == "manifest.sig: not a signature of manifest.json by MODEL_PUBLIC_KEY"


def test_a_signature_covers_the_files_through_their_hashes(bundle, keys):
    """A signed manifest with another model beside it is refused by the model's hash."""
    sign, public = keys
    sign(bundle)
    model = bytearray((bundle / "model.joblib").read_bytes())
    model[200] ^= 1
    (bundle / "model.joblib").write_bytes(model)
    assert _refused(bundle, public) == "model.joblib: sha256 differs from the manifest's"


def test_a_public_key_that_is_none_is_named(bundle, tmp_path):
    """No file, no PEM, another kind of key."""
    assert _refused(bundle, tmp_path / "no.pem") == f"MODEL_PUBLIC_KEY: {tmp_path}/no.pem: No such file or directory"
    path = tmp_path / "key.pem"
    path.write_bytes(b"ssh-ed25519 AAAA")
    assert _refused(bundle, path) == "MODEL_PUBLIC_KEY: not a PEM public key"
    other = generate_private_key(SECP256R1()).public_key()
    path.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert _refused(bundle, path) == "MODEL_PUBLIC_KEY: not an Ed25519 key"


# --- what comes after the bytes -------------------------------------------------------------------------------------


class _WritesWhenUnpickled:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _libraries(**changes):
    return Libraries(**{"python": "3.11.0", "numpy": "2.0.0", "scikit-learn": "1.0.0", **changes})


def test_nothing_is_unpickled_before_every_check_has_passed(tmp_path, estimator, keys):
    """A pickle that writes a file does so only in a bundle whose size, hash, signature and libraries are right."""
    sign, public = keys
    marker, model = tmp_path / "executed", tmp_path / "model"
    evil = pickle.dumps(_WritesWhenUnpickled(marker))

    bundles.write(model, estimator)
    (model / "model.joblib").write_bytes(evil)
    assert _refused(model).startswith("model.joblib: ")
    entry = json.loads((model / "manifest.json").read_text())["files"]["model.joblib"]
    (model / "model.joblib").write_bytes(evil.ljust(entry["size"], b"."))
    assert _refused(model) == "model.joblib: sha256 differs from the manifest's"

    bundles.write(model, estimator, model=evil)
    assert _refused(model, public).startswith("manifest.sig: ")
    bundles.write(model, estimator, model=evil, libraries=_libraries())
    assert _refused(model).startswith("manifest.json: fitted with ")
    bundles.write(model, estimator, model=evil, event=EventMapping(event_id="features.tenure"))
    assert _refused(model).startswith("manifest.json: no event")
    assert not marker.exists()

    bundles.write(model, estimator, model=evil)
    sign(model)
    assert _refused(model, public) == "model.joblib: not a fitted binary classifier with predict_proba"
    assert marker.exists(), "the pickle of this test does nothing"


def test_the_bytes_that_were_checked_are_the_ones_unpickled(bundle, tmp_path):
    """The file may be replaced after it was read: it is not opened a second time."""
    read = read_bundle(bundle)
    (bundle / "model.joblib").write_bytes(pickle.dumps(_WritesWhenUnpickled(tmp_path / "executed")))
    assert _estimator(read).classes_.tolist() == ["No", "Yes"]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [
        ("python", "3.{minor}.99", True),
        ("python", "3.1.0", False),
        ("python", "4.{minor}.0", False),
        ("python", "", False),
        ("scikit-learn", "{major}.{minor_sklearn}.99", True),
        ("scikit-learn", "{major}.999.0", False),
        ("scikit-learn", "0.{minor_sklearn}.0", False),
        ("numpy", "1.26.0", True),
    ],
)
def test_library_versions_must_be_the_ones_of_this_process(tmp_path, estimator, name, version, fits):
    """Same Python minor and same scikit-learn major.minor; the line names both versions."""
    here = bundles.manifest(estimator).libraries.model_dump(by_alias=True)
    sklearn_major, sklearn_minor = here["scikit-learn"].split(".")[:2]
    version = version.format(minor=here["python"].split(".")[1], major=sklearn_major, minor_sklearn=sklearn_minor)
    bundles.write(tmp_path, estimator, libraries=Libraries(**{**here, name: version}))
    if fits:
        load(tmp_path, None)
    else:
        line = f"manifest.json: fitted with {name} {version}, this process runs {here[name]}"
        assert _refused(tmp_path) == line


@pytest.mark.parametrize("model", [b"", b"junk", pickle.dumps({"a": 1}), pickle.dumps(3), b"cno.such.module\nName\n."])
def test_a_pickle_that_is_no_classifier_is_refused(tmp_path, estimator, model):
    """Empty, damaged, of a module that is not here, or of something else."""
    bundles.write(tmp_path, estimator, model=model or b"\n")
    assert _refused(tmp_path).startswith("model.joblib: ")


class _RaisesLines:
    def __setstate__(self, state):
        raise ValueError("node array from the pickle has an incompatible dtype:\n- expected: x\n- got     : y")

    def __reduce__(self):
        return object.__new__, (type(self),), {"a": 1}


def test_an_error_of_many_lines_is_one_line(tmp_path, estimator):
    """As scikit-learn's own error about trees of another version, which has three."""
    bundles.write(tmp_path, estimator, model=pickle.dumps(_RaisesLines()))
    assert _refused(tmp_path) == (
        "model.joblib: cannot be loaded: ValueError: node array from the pickle has an incompatible dtype: "
        "- expected: x - got : y"
    )


@pytest.mark.parametrize(("positive", "shown"), [("yes", "'yes'"), ("1", "'1'"), (1, "1"), (True, "True"), ("", "''")])
def test_the_positive_class_must_be_one_of_the_models(tmp_path, estimator, positive, shown):
    """The line lists the existing ones."""
    bundles.write(tmp_path, estimator, positive_class=positive)
    assert _refused(tmp_path) == f"manifest.json: positive_class: {shown} is not one of ['No', 'Yes']"


class _Classifier:
    """Replaces a fitted classifier; each test sets the result of predict_proba."""

    classes_ = np.array(["No", "Yes"])

    def __init__(self, answer):
        self.answer = answer

    def predict_proba(self, frame):
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.tile(np.array(self.answer, dtype=float), (len(frame), 1))


class _OneRowOnly(_Classifier):
    def predict_proba(self, frame):
        return super().predict_proba(frame)[:1].repeat(2, axis=0)


class _ThreeClasses(_Classifier):
    classes_ = np.array(["a", "b", "c"])


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (_ThreeClasses([0.1, 0.2, 0.7]), "model.joblib: not a fitted binary classifier with predict_proba"),
        (_Classifier([0.75, 0.25]), "model.joblib: golden rows differ by 0.15, at most 1e-09 is accepted"),
        (_Classifier([0.6, float("nan")]), "model.joblib: golden rows differ by nan, at most 1e-09 is accepted"),
        (_Classifier([0.4]), "model.joblib: predict_proba fails on the golden rows: IndexError: "),
        (_Classifier(RuntimeError("a\nb")), "model.joblib: predict_proba fails on the golden rows: RuntimeError: a b"),
        (_OneRowOnly([0.6, 0.4]), "model.joblib: predict_proba gave 2 rows for 1"),
        (_Classifier([0.6, 0.4]), None),
    ],
)
def test_a_model_must_reproduce_its_golden_rows(tmp_path, estimator, model, line):
    """Within the tolerance; NaN is not within any."""
    golden = Golden(rows=(GOOD_FEATURES,), probabilities=(0.4,))
    bundles.write(tmp_path, estimator, model=bundles.pickled(model), golden=golden)
    if line is None:
        assert load(tmp_path, None).form == "frame"
    else:
        assert _refused(tmp_path).startswith(line)


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ({"rows": [], "probabilities": []}, "manifest.json: golden: no rows"),
        ({"rows": [{}], "probabilities": []}, "as many probabilities as rows"),
        ({"rows": [{**GOOD_FEATURES, "tenure": "x"}], "probabilities": [0.5]}, "manifest.json: golden: ValueError: "),
        (
            {"rows": [{**GOOD_FEATURES, "contract": ["x"]}], "probabilities": [0.5]},
            "manifest.json: golden: TypeError: ",
        ),
        ({"rows": [GOOD_FEATURES], "probabilities": [0.0]}, "model.joblib: golden rows differ by "),
        ({"rows": [GOOD_FEATURES], "probabilities": [None]}, "manifest.json: golden.probabilities.0: "),
    ],
)
def test_wrong_golden_rows_refuse_the_bundle(bundle, golden, words):
    """None, of the wrong number, of values that are no feature's, or of other probabilities."""
    _edit(bundle, golden=golden)
    assert words in _refused(bundle)


def test_the_golden_tolerance_is_the_manifests(bundle):
    """An estimator that needs a larger one states it."""
    golden = json.loads((bundle / "manifest.json").read_text())["golden"]
    _edit(bundle, golden={**golden, "probabilities": [golden["probabilities"][0] + 1e-6]})
    assert "golden rows differ by 1e-06" in _refused(bundle)
    _edit(bundle, golden={**golden, "probabilities": [golden["probabilities"][0] + 1e-6], "tolerance": 1e-5})
    load(bundle, None)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r.to_bytes()[:-30], "reference.npz: reference: not a reference archive"),
        (lambda _: pickle.dumps([1]), "reference.npz: reference: not a reference archive"),
        (lambda _: b"junk", "reference.npz: reference: not a reference archive"),
        (
            lambda r: type(r)(r.numeric[:, :2], r.codes, r.score, r.singletons).to_bytes(),
            "reference.npz: 2 + 4 columns are not the manifest's features",
        ),
        (
            lambda r: type(r)(r.numeric, r.codes[:, :3], r.score, r.singletons[:3]).to_bytes(),
            "reference.npz: 3 + 3 columns are not the manifest's features",
        ),
        (
            lambda r: type(r)(r.numeric, r.codes + 1, r.score, r.singletons).to_bytes(),
            "reference.npz: a code of contract is none of the manifest's categories",
        ),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(tmp_path, estimator, change, line):
    """Damaged before it was hashed, or made for other features."""
    files = {"model.joblib": bundles.pickled(estimator), "reference.npz": change(bundles.reference())}
    write_bundle(tmp_path, bundles.manifest(estimator), files)
    assert _refused(tmp_path).startswith(line)


def test_the_manifest_is_the_same_bytes_for_the_same_model(tmp_path, estimator):
    """So that a bundle can be made again and compared; its sha256 names the model everywhere."""
    for name in ("a", "b"):
        bundles.write(tmp_path / name, estimator, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    a, b = (read_bundle(tmp_path / name) for name in ("a", "b"))
    assert a.manifest_sha256 == b.manifest_sha256
    assert len(a.manifest_sha256) == 64


# --- regression -----------------------------------------------------------------------------------------------------


def test_a_regression_is_loaded_and_keeps_its_manifest(tmp_path):
    """In direct form, with the values of the estimator; nothing of a binary model is in its manifest."""
    estimator = bundles.fitted_regression()
    bundles.write_regression(tmp_path, estimator)
    model = load(tmp_path, None)
    columns = bundles.columns()
    np.testing.assert_allclose(model.predict(columns), estimator.predict(columns.frame()), rtol=1e-12, atol=0)
    assert model.form == "direct"
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written["task"] == "regression"
    assert {"positive_class", "threshold", "calibration", "business"} & set(written) == set()
    assert parse_manifest((tmp_path / "manifest.json").read_bytes()) == model.manifest


def test_the_manifest_of_a_binary_model_has_no_member_that_older_versions_reject(bundle):
    """A member `task` is legal, and not written."""
    written = json.loads((bundle / "manifest.json").read_text())
    assert {"task", "method", "value", "residuals", "classes"} & set(written) == set()
    assert {"class_calibration", "error_curve"} & set(written) == set()
    _edit(bundle, task="binary")
    assert load(bundle, None).manifest.predicts.name == "binary"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positive_class": "Yes"}, "manifest.json: positive_class: "),
        ({"threshold": 0.5}, "manifest.json: threshold: "),
        ({"absent_label": "negative"}, "absent_label: not of a model whose task is regression"),
        ({"business": {"currency": "EUR"}}, "business: not of a model whose task is regression"),
        ({"golden": {"rows": [], "probabilities": []}}, "golden: not of a model whose task is regression"),
        ({"residuals": {"low": 1.0, "high": 0.0, "level": 0.9, "rows": 9}}, "residuals: low is above high"),
        ({"value": {"min": 2, "max": 1}}, "value: min is above max"),
        ({"task": "ranking"}, "manifest.json: task: "),
        ({"task": None}, "manifest.json: positive_class: "),
        ({"method": "score_samples"}, 'model.joblib: task is "regression", and this has no score_samples'),
    ],
)
def test_a_manifest_that_contradicts_its_task_is_refused(tmp_path, change, words):
    """The line names the member."""
    bundles.write_regression(tmp_path)
    _edit(tmp_path, **change)
    assert words in _refused(tmp_path)


def test_an_estimator_of_another_task_is_refused(tmp_path, estimator):
    """A classifier as a regression, and a regressor as binary."""
    bundles.write_regression(tmp_path / "one")
    raw = bundles.pickled(estimator)
    write_bundle(
        tmp_path / "one",
        parse_manifest((tmp_path / "one" / "manifest.json").read_bytes()),
        {"model.joblib": raw, "reference.npz": bundles.reference().to_bytes()},
    )
    assert _refused(tmp_path / "one") == 'model.joblib: task is "regression", and this is a classifier: it has classes'
    bundles.write(tmp_path / "two", estimator, model=bundles.pickled(bundles.fitted_regression()))
    assert _refused(tmp_path / "two") == "model.joblib: not a fitted binary classifier with predict_proba"


def test_what_is_for_binary_models_only_names_the_task(tmp_path):
    """One line, and what it is about."""
    bundles.write_regression(tmp_path)
    with pytest.raises(
        BundleError, match=r"^manifest\.json: task is regression: driftline x is for binary models only"
    ):
        load(tmp_path, None).manifest.binary("driftline x")


# --- several classes ------------------------------------------------------------------------------------------------


def _of_classes(**changes):
    fields = json.loads(bundles.manifest(bundles.fitted()).model_dump_json(by_alias=True, exclude_none=True))
    for name in ("positive_class", "threshold"):
        del fields[name]
    golden = {"rows": [{}], "distributions": [[0.2, 0.3, 0.5]]}
    return {**fields, "task": "multiclass", "classes": ["a", "b", "c"], "golden": golden, **changes}


def test_a_manifest_of_several_classes_is_read_as_it_was_written():
    """Its task has the classes; a binary manifest has no member of them."""
    manifest = parse_manifest(json.dumps(_of_classes()).encode())
    assert manifest.predicts == Multiclass(("a", "b", "c"))
    assert manifest.golden.scores == ((0.2, 0.3, 0.5),)
    assert parse_manifest(manifest_bytes(manifest)) == manifest
    assert b"classes" not in manifest_bytes(bundles.manifest(bundles.fitted()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": None}, "classes: expected every class of the model once"),
        ({"classes": ["a", "b", "a"]}, "classes: expected every class of the model once"),
        ({"classes": ["a", "b"]}, "classes: "),
        ({"task": None, "positive_class": "a", "threshold": 0.5}, "classes: not of a model whose task is binary"),
        (
            {"positive_class": "a"},
            'positive_class: Value error, expected one of the classes, unless task is "multiclass"',
        ),
        ({"threshold": 0.5}, 'a model whose task is "multiclass" has none'),
        ({"absent_label": "negative"}, "absent_label: not of a model whose task is multiclass"),
        ({"business": {"true_positive": 1.0}}, "business: not of a model whose task is multiclass"),
        ({"business": {"over": 1.0, "under": 1.0}}, "business: not of a model whose task is multiclass"),
        ({"business": {"matrix": {"a": {"z": 1.0}}}}, "business: 'z' is no class of the model"),
        ({"business": {"matrix": {"a": {"a": "x"}}}}, "manifest.json: business.matrix.a.a: "),
        (
            {"class_calibration": {"curves": {"a": {"x": [0], "y": [0]}}, "rows": 1, "band": {}, "class_band": {}}},
            "class_calibration: expected a curve of every class",
        ),
        (
            {"error_curve": {"x": [0], "y": [0], "spread": [0], "rows": 1, "band": 0}},
            "error_curve: not of a model whose task is multiclass",
        ),
        (
            {"calibration": {"x": [0.0, 1.0], "y": [0.0, 1.0], "rows": 10, "band": {}}},
            "calibration: not of a model whose task is multiclass",
        ),
        ({"golden": {"rows": [{}], "probabilities": [0.5]}}, "golden: not of a model whose task is multiclass"),
        ({"golden": {"rows": [{}], "distributions": [[0.5, 0.5]]}}, "golden: as many probabilities as classes"),
        ({"golden": {"rows": [{}], "distributions": [[1, 0, 0]], "values": [1]}}, "are of several tasks"),
    ],
)
def test_a_manifest_that_mixes_tasks_is_refused(changes, words):
    """The line names the member and the task."""
    fields = {name: value for name, value in _of_classes(**changes).items() if value is not None}
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(fields).encode())
    assert words in str(caught.value)
