"""Folders of images: every step against NumPy or Pillow itself, the same in every verb, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import strop
from models import build, weight
from strop import Preprocessing, formats
from strop.comparison import preprocessing_of
from strop.errors import InvalidData, InvalidPlan, UnsupportedModel
from strop.images import is_images, read_images
from strop.model import Signature, Tensor
from strop.planfile import Plan, read
from strop.reading import read_for
from strop.runtimes.onnxruntime import Onnxruntime
from strop.target import Target

RNG = np.random.default_rng


def signature(*shape: int | str, classes: int = 3) -> Signature:
    return Signature((Tensor("image", "float32", shape),), (Tensor("scores", "float32", ("N", classes)),))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of several sizes in three folders, of every way to store colors."""
    root = tmp_path_factory.mktemp("photos")
    modes = ("RGB", "L", "P", "RGBA", "LA", "1")
    for place, name in enumerate(("cat", "dog", "owl")):
        (root / name).mkdir()
        for number in range(2):
            mode = modes[2 * place + number]
            pixels = RNG([place, number]).integers(0, 256, (20 + 7 * place, 30 - 5 * number, 3), np.uint8)
            image = Image.fromarray(pixels).convert(mode)
            image.save(root / name / f"{number}.png")
    (root / "notes").mkdir()
    (root / "notes" / "readme.txt").write_text("no image")
    return root


def test_every_step_is_what_numpy_and_pillow_make_of_it(photos: Path, tmp_path: Path) -> None:
    steps = Preprocessing(16, (12, 8), "bicubic", scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    data = read_for(signature("N", 3, 12, 8), photos, preprocessing=steps, storage=tmp_path / "kept")
    files = [photos / name / f"{number}.png" for name in ("cat", "dog", "owl") for number in range(2)]
    for row, file in enumerate(files):
        image = Image.open(file).convert("RGB")
        width, height = image.size
        short = min(width, height)
        image = image.resize((16 * width // short, 16 * height // short), Image.Resampling.BICUBIC)
        left, upper = (image.width - 8) // 2, (image.height - 12) // 2
        pixels = np.asarray(image)[upper : upper + 12, left : left + 8].astype(np.float64)
        expected = ((pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(2, 0, 1)
        np.testing.assert_allclose(data.batch(row, row + 1)["image"][0], expected, atol=2e-6)
    assert data.labels is not None and data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    by_name = read_for(signature("N", 3, 12, 8), str(photos), preprocessing=steps, slices=("class",))
    assert by_name.slices["class"].tolist() == ["cat", "cat", "dog", "dog", "owl", "owl"]


@pytest.mark.parametrize("colors", ["rgb", "bgr", "gray"])
def test_colors_and_layout(photos: Path, colors: Any) -> None:
    steps = Preprocessing((9, 9), colors=colors, scale=1, interpolation="nearest")
    channels = 1 if colors == "gray" else 3
    last = read_images(photos, steps, signature("N", 9, 9, channels), None)["image"]
    first = read_images(photos, steps, signature("N", channels, 9, 9), None)["image"]
    np.testing.assert_array_equal(first, last.transpose(0, 3, 1, 2))
    image = Image.open(photos / "cat" / "0.png").convert("L" if colors == "gray" else "RGB")
    pixels = np.asarray(image.resize((9, 9), Image.Resampling.NEAREST)).reshape(9, 9, channels)
    np.testing.assert_array_equal(last[0], pixels[..., ::-1] if colors == "bgr" else pixels)


def test_a_folder_without_classes_has_no_labels(photos: Path) -> None:
    assert set(read_images(photos / "cat", Preprocessing(8, 8), signature("N", 3, 8, 8), None)) == {"image"}
    assert not is_images(photos / "notes")
    assert not is_images(photos / "nothing")


def test_classes_go_by_the_order_that_is_declared(photos: Path) -> None:
    steps = Preprocessing(8, 8, classes=("owl", "elk", "dog", "cat"))
    found = read_images(photos, steps, signature("N", 3, 8, 8, classes=4), None)
    assert found["labels"].tolist() == [3, 3, 2, 2, 0, 0]


def linear(classes: np.ndarray, offsets: np.ndarray) -> onnx.ModelProto:
    """A linear model of 8 x 8 gray images, channels first; of weights [64, 10]."""
    return build(
        """g (float[N, 1, 8, 8] image) => (float[N, 10] scores) {
            flat = Flatten(image)
            m = MatMul(flat, w)
            scores = Add(m, b)
        }""",
        [onnx.numpy_helper.from_array(classes, "w"), onnx.numpy_helper.from_array(offsets, "b")],
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of handwritten digits, and 400 of them as images by class."""
    root = tmp_path_factory.mktemp("digits")
    x, y = load_digits(return_X_y=True)
    fitted = LogisticRegression(max_iter=200).fit(x[400:] / 16, y[400:])
    model = linear(fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32))
    onnx.save(model, root / "digits.onnx")
    for row in range(400):
        folder = root / "images" / str(y[row])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[row].reshape(8, 8) * 15).astype(np.uint8)).save(folder / f"{row}.png")
    return root / "digits.onnx", root / "images"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_model_that_takes_pre_processing_over_computes_the_same(tmp_path: Path, layout: Any) -> None:
    channels_first = layout == "nchw"
    steps = Preprocessing(colors="bgr", scale=0.25, mean=(1, 2, 3), std=(4, 5, 6), layout=layout)
    shape, perm = ("3, 7, 5", "0, 1, 2, 3") if channels_first else ("7, 5, 3", "0, 3, 1, 2")
    proto = build(
        f"""g (float[N, {shape}] image, bool flag) => (float[N, 4, 5, 3] y) {{
            first = Transpose <perm = [{perm}]> (image)
            y = If (flag) <
                then_branch = t () => (float[N, 4, 5, 3] a) {{ a = Conv(first, k) }},
                else_branch = e () => (float[N, 4, 5, 3] b) {{
                    moved = Transpose <perm = [{perm}]> (image)
                    b = Conv(moved, k)
                }}
            >
        }}""",
        [weight("k", 4, 3, 3, 3)],
    )
    stored = onnx.numpy_helper.from_array(np.array(False), "flag")
    del proto.graph.input[1]
    proto.graph.initializer.append(stored)
    onnx.save(proto, tmp_path / "m.onnx")
    model = formats.open(tmp_path / "m.onnx")
    folded = formats.format_of("onnx").folded(model, steps, tmp_path / "folded")
    assert str(folded.signature.inputs[0]) == "image: uint8[N, 7, 5, 3]"
    pixels = RNG(0).integers(0, 256, (6, 7, 5, 3), np.uint8)
    before, after = (Onnxruntime().load(one, Target()) for one in (model, folded))
    expected = before({"image": steps.apply(pixels)})["y"]
    np.testing.assert_allclose(after({"image": pixels})["y"], expected, rtol=1e-5, atol=1e-4)


def test_a_search_takes_folders_and_its_bundle_is_verified_with_them(
    digits: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_looks: None
) -> None:
    """What the model takes over is in the bundle's model, and the original is compared as it would be with it."""
    monkeypatch.chdir(tmp_path)
    model, images = digits
    steps = Preprocessing(colors="gray", fold=True)
    result = strop.optimize(
        model, images, "accuracy >= 80% of original", preprocessing=steps, slices=("class",),
        target=Target(threads=1, formats=("onnx",)), budget=strop.Budget(300, 1), out=tmp_path / "bundle",
    )  # fmt: skip
    bundle = result.save()
    assert bundle.preprocessing == steps.settled(images, formats.open(model).signature)
    assert bundle.preprocessing is not None and bundle.preprocessing.classes == tuple("0123456789")
    assert bundle.model.signature.inputs[0].dtype == "uint8"
    assert "images: gray, times 0.00392157" in (bundle.folder / "report.html").read_text()
    assert json.loads((bundle.folder / "manifest.json").read_text())["original"]["metrics"]["accuracy"]["value"] > 0.8
    found = strop.verify(bundle, model, images)
    assert found["outputs"]["verdict"] == "same"
    assert {limit["verdict"] for limit in found["limits"]} <= {"met", "inconclusive"}
    assert preprocessing_of(None, bundle.folder, model) == bundle.preprocessing  # of compare and benchmark


def test_a_plan_declares_it(tmp_path: Path) -> None:
    text = 'model = "m.onnx"\ndata = "photos"\n[preprocessing]\nresize = [256, 256]\nmean = [0.1, 0.2, 0.3]\n'
    (tmp_path / "strop.toml").write_text(text)
    found = read(tmp_path / "strop.toml", Plan).preprocessing
    assert found == Preprocessing((256, 256), mean=(0.1, 0.2, 0.3))
    (tmp_path / "strop.toml").write_text(text + "colour = 'rgb'\n")
    with pytest.raises(InvalidPlan, match=r"strop.toml:3: preprocessing must be of the keys .*did you mean colors"):
        read(tmp_path / "strop.toml", Plan)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"resize": 0}, "resize"), ({"crop": (1, 2, 3)}, "crop"), ({"crop": True}, "crop"), ({"scale": 0}, "scale"),
        ({"mean": (1.0, 2.0)}, "mean"), ({"std": 0.0}, "std"), ({"std": float("nan")}, "std"),
        ({"colors": "hsv"}, "colors"), ({"layout": "chw"}, "layout"), ({"interpolation": 3}, "interpolation"),
        ({"classes": ("a", "a")}, "classes"), ({"fold": 1}, "fold"), ({"mean": "x"}, "mean"),
    ],
)  # fmt: skip
def test_what_is_no_pre_processing_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidPlan, match=f"{words} of the pre-processing must be"):
        Preprocessing(**wrong)


@pytest.mark.parametrize(
    ("steps", "takes", "words"),
    [
        (None, ("N", 3, 8, 8), "how the model wants them must be said"),
        (Preprocessing(8), ("N", 3, 8, 8), "must come to one size"),
        (Preprocessing(8, 8), ("N", 3, 9, 9), "must be [3, 9, 9]"),
        (Preprocessing(crop=200), ("N", 3, 200, 200), "at least as large as the crop, 200 x 200"),
        (Preprocessing(8, 8), ("N", 8, 8), "which axis holds the colors"),
        (Preprocessing(3, 3), ("N", 3, 3, 3), "which axis holds the colors"),
        (Preprocessing(8, 8, classes=("cat", "dog")), ("N", 3, 8, 8), "'owl' is none of cat, dog"),
    ],
)
def test_images_that_do_not_fit(
    photos: Path, steps: Preprocessing | None, takes: tuple[int | str, ...], words: str
) -> None:
    from strop.data import match

    with pytest.raises(InvalidData, match=re.escape(words)):
        match(read_for(signature(*takes), photos, preprocessing=steps), signature(*takes))


def test_other_classes_than_the_models_are_refused(photos: Path) -> None:
    with pytest.raises(InvalidData, match="there are 3, while the model tells 5 apart"):
        read_images(photos, Preprocessing(8, 8), signature("N", 3, 8, 8, classes=5), None)


@pytest.mark.parametrize("broken", ["cut", "text", "bomb"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    Image.fromarray(RNG(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes({"cut": content[:300], "text": b"no image", "bomb": content}[broken])
    if broken == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InvalidData, match="at most 1,000 pixels" if broken == "bomb" else "b.jpg can't be read"):
        read_images(tmp_path, Preprocessing(8, 8), signature("N", 3, 8, 8), None)


def test_an_image_that_grows_beyond_bounds_or_is_deeper_than_8_bits_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 30_000, 3), np.uint8)).save(tmp_path / "thin.png")
    with pytest.raises(InvalidData, match=r"thin\.png \(1 x 30000\) comes to 300 x 9000000"):
        Preprocessing(300, 8).pixels(tmp_path / "thin.png")
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InvalidData, match=r"8 bits a color, and .*deep\.png has more \(mode I;16\)"):
        Preprocessing(8, 8).pixels(tmp_path / "deep.png")


def test_a_model_that_can_take_none_over_says_so(tmp_path: Path) -> None:
    onnx.save(build("g (float[N, 16] x) => (float[N, 16] y) { y = Relu(x) }", []), tmp_path / "m.onnx")
    model = formats.open(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match="only input is float32 with 4 axes"):
        formats.format_of("onnx").folded(model, Preprocessing(layout="nchw"), tmp_path / "folded")
    with pytest.raises(UnsupportedModel, match="this is one in openvino"):
        formats.format_of("openvino").folded(model, Preprocessing(), tmp_path / "folded")
