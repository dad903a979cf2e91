"""Images: a folder of them becomes samples, by the same pre-processing wherever strop reads it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_type_hints

import numpy as np

from ._arrays import listed
from ._lazy import lazy
from ._plain import told
from .errors import InvalidData, InvalidPlan
from .model import Signature, Tensor

if TYPE_CHECKING:
    from PIL import Image
else:
    Image = lazy("PIL.Image", "images")

Array: TypeAlias = np.ndarray[Any, Any]
Colors: TypeAlias = Literal["rgb", "bgr", "gray"]
Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Layout: TypeAlias = Literal["nchw", "nhwc"]
Size: TypeAlias = int | tuple[int, int]
Values: TypeAlias = float | tuple[float, ...]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
LARGEST = 1 << 15  # pixels of a side


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a model sees it, in the order of the attributes.

    A pixel p (0 to 255) of a channel becomes (p * scale - mean) / std, as float32.

    Attributes:
        resize: Height and width; or one number, for the shorter side, the other in proportion. None: as it is.
        crop: Height and width, or one number for both, from the middle.
        interpolation: Of resizing, by Pillow, which takes all pixels into account where an image shrinks (`nearest`
            does not).
        colors: `rgb`, `bgr` or `gray`; what an image has else, such as a palette or transparency, is converted.
        scale: Pixels are multiplied by it.
        mean: Taken off then; one number, or one a channel.
        std: Divided by then; likewise.
        layout: `nchw` or `nhwc`; None for the one that the model's input has room for.
        classes: The folders of the classes, in the model's order; empty for all that there are, by name.
        fold: Whether the model takes over what comes after the crop: it is then handed pixels, uint8
            [samples, height, width, channels], and what it does with them is part of its latency.

    Raises:
        InvalidPlan: A value is none of its kind.
    """

    resize: Size | None = None
    crop: Size | None = None
    interpolation: Interpolation = "bilinear"
    colors: Colors = "rgb"
    scale: float = 1 / 255
    mean: Values = 0.0
    std: Values = 1.0
    layout: Layout | None = None
    classes: tuple[str, ...] = ()
    fold: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "mean", "std", "classes"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        kinds = get_type_hints(type(self))
        for name in ("interpolation", "colors"):
            _must(
                getattr(self, name) in get_args(kinds[name]), name, f"one of {', '.join(get_args(kinds[name]))}", self
            )
        _must(self.layout in (None, *get_args(Layout)), "layout", f"one of {', '.join(get_args(Layout))}", self)
        for name in ("resize", "crop"):
            value = getattr(self, name)
            sides = value if isinstance(value, tuple) else (value,)
            whole = len(sides) <= 2 and all(_whole(side) for side in sides)
            _must(value is None or whole, name, f"a number of pixels from 1 to {LARGEST:,}, or [height, width]", self)
        _must(_number(self.scale) and self.scale != 0, "scale", "a number that is not 0", self)
        for name in ("mean", "std"):
            values = self._by_channel(name)
            fits = len(values) in (1, self.channels) and all(map(_number, values))
            _must(fits, name, f"a number, or {self.channels} of them for the channels of {self.colors}", self)
        _must(all(value > 0 for value in self._by_channel("std")), "std", "above 0", self)
        _must(
            isinstance(self.classes, tuple) and all(isinstance(n, str) for n in self.classes), "classes", "names", self
        )
        _must(len(set(self.classes)) == len(self.classes), "classes", "names, each but once", self)
        _must(isinstance(self.fold, bool), "fold", "true or false", self)

    @property
    def channels(self) -> int:
        return 1 if self.colors == "gray" else 3

    def settled(self, source: object, signature: Signature) -> Preprocessing:
        """With layout and classes as a model and a folder have them, so that every further folder is read alike.

        Raises:
            InvalidData: There is no telling the layout, or the classes are not as many as the model's.
        """
        layout = self.layout or _layout(signature)
        classes = self.classes
        if not classes and is_images(source):
            classes = tuple(folder.name for folder in _folders(Path(str(source))))
            width = next((t.shape[-1] for t in signature.visible_outputs if len(t.shape) == 2), None)
            if classes and isinstance(width, int) and width > 1 and len(classes) != width:
                raise InvalidData(
                    f"Every folder in {source} is a class, and there are {len(classes)}, while the model tells {width} "
                    "apart. Name all of them in the model's order: classes = [...] under [preprocessing]."
                )
        return replace(self, layout=layout, classes=classes)

    def coefficients(self) -> tuple[Array, Array]:
        """By channel, float32: pixels times the first, plus the second, are what the model takes."""
        mean, std = (np.array(self._by_channel(name), np.float64) for name in ("mean", "std"))
        ones = np.ones(self.channels)
        return (self.scale / std * ones).astype(np.float32), (-mean / std * ones).astype(np.float32)

    def apply(self, pixels: Array) -> Array:
        """What the model takes, of pixels [samples, height, width, channels]: float32; or the pixels, if it folds."""
        if self.fold:
            return pixels
        factor, offset = self.coefficients()
        made = pixels.astype(np.float32) * factor + offset
        return np.ascontiguousarray(made.transpose(0, 3, 1, 2)) if self.layout == "nchw" else made

    def pixels(self, file: Path) -> Array:
        """Decode an image, resize and crop it: [height, width, channels], uint8.

        Raises:
            InvalidData: It is no image, cut short, of more than 8 bits a color, too large, or smaller than the crop.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file) as opened:
                    deep = opened.mode if opened.mode.startswith(("I", "F")) else ""
                    image = opened.convert("L" if self.colors == "gray" else "RGB")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise InvalidData(
                f"An image must have at most {Image.MAX_IMAGE_PIXELS:,} pixels, and {file} has more. Make it smaller."
            ) from error
        except Exception as error:  # of Pillow's decoders, which a damaged file may lead anywhere
            raise InvalidData(
                f"{file} can't be read as an image: {told(error)}. Write it again, or leave it out."
            ) from error
        if deep:  # Pillow would cut off what is above 255
            raise InvalidData(
                f"An image must have 8 bits a color, and {file} has more (mode {deep}). Write it again in 8 bits, "
                "scaled as it was in training."
            )
        if self.resize is not None:
            size = _resized(image.size, self.resize)
            if math.prod(size) > (most := Image.MAX_IMAGE_PIXELS or math.inf):
                raise InvalidData(
                    f"An image must have at most {most:,} pixels once it is resized, and {file} ({image.height} x "
                    f"{image.width}) comes to {size[1]} x {size[0]}. Give resize [height, width], or leave it out."
                )
            image = image.resize(size, Image.Resampling[self.interpolation.upper()])
        if self.crop is not None:
            image = image.crop(_middle(image.size, self.crop, file))
        array = np.asarray(image, np.uint8).reshape(image.height, image.width, self.channels)
        return array[..., ::-1] if self.colors == "bgr" else array

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __str__(self) -> str:
        """In a line, for a person."""
        size = {name: _by(getattr(self, name)) for name in ("resize", "crop") if getattr(self, name) is not None}
        steps = [f"{name} to {text}" for name, text in size.items()]
        steps += [f"{self.interpolation} of Pillow"] if self.resize is not None else []
        means, stds = (", ".join(f"{value:g}" for value in self._by_channel(name)) for name in ("mean", "std"))
        steps += [f"{self.colors}, times {self.scale:g}", f"less {means}, over {stds}", self.layout or ""]
        return "; ".join(filter(None, steps)) + (" (the last three in the model)" if self.fold else "")

    def _by_channel(self, name: str) -> tuple[float, ...]:
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,)


def is_images(source: object) -> bool:
    """Whether it is a folder that holds images, or folders of them."""
    if not isinstance(source, (str, Path)) or not os.path.isdir(source):
        return False
    here = Path(source)
    return not any(here.glob("*.npy")) and bool(_folders(here) or any(map(_is_image, here.iterdir())))


def read_images(
    folder: Path, preprocessing: Preprocessing | None, signature: Signature, storage: Path | None
) -> dict[str, Array]:
    """The samples of a folder: the model's input, and of folders by class `labels` (int64) and `class` (their names).

    Args:
        storage: A folder for what is decoded; None for memory.

    Raises:
        InvalidData: It does not fit the pre-processing, or this the model.
    """
    if len(signature.inputs) != 1:
        raise InvalidData(
            f"A folder of images is data for a model with one input, and this one has {len(signature.inputs)}. Give "
            "arrays by name."
        )
    if preprocessing is None:
        raise InvalidData(
            f"{folder} holds images, and how the model wants them must be said, as when it was trained. Declare it "
            "in strop.toml under [preprocessing], or as preprocessing=strop.Preprocessing(resize=256, crop=224, ...)."
        )
    settled = preprocessing.settled(folder, signature)
    files, labels = _files(folder, settled.classes)
    name = signature.inputs[0].name
    made = {name: _decoded(files, settled, storage)}
    if labels is not None:
        made |= {"labels": labels, "class": np.array(settled.classes)[labels]}
    return made


def _decoded(files: Sequence[Path], preprocessing: Preprocessing, storage: Path | None) -> Array:
    first = preprocessing.apply(preprocessing.pixels(files[0])[None])
    shape = (len(files), *first.shape[1:])
    if storage is None:
        whole: Array = np.empty(shape, first.dtype)
    else:
        storage.mkdir(parents=True, exist_ok=True)
        whole = np.lib.format.open_memmap(storage / "images.npy", "w+", first.dtype, shape)
    for row, file in enumerate(files):
        sample = preprocessing.apply(preprocessing.pixels(file)[None])
        if sample.shape[1:] != shape[1:]:
            raise InvalidData(
                f"All images must come to one size, and {file} comes to {list(sample.shape[1:])}, after "
                f"{list(shape[1:])}. Crop them, or resize to [height, width], under [preprocessing]."
            )
        whole[row] = sample[0]
    return whole


def _files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], Array | None]:
    """All images in order, and the number of each one's class where they lie in folders."""
    folders = _folders(folder)
    if not folders:
        return sorted(file for file in folder.iterdir() if _is_image(file)), None
    if strange := [found.name for found in folders if found.name not in classes]:
        raise InvalidData(
            f"Every folder in {folder} must be a class, and {strange[0]!r} is none of {listed(classes[:10])}"
            f"{', ...' if len(classes) > 10 else ''}. Move it away, or name it under [preprocessing], classes."
        )
    places = {name: place for place, name in enumerate(classes)}
    rows = [(file, places[found.name]) for found in folders for file in sorted(found.iterdir()) if _is_image(file)]
    return [file for file, _ in rows], np.array([place for _, place in rows], np.int64)


def _folders(folder: Path) -> list[Path]:
    """The folders of classes: those that hold an image."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and any(map(_is_image, one.iterdir())))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _layout(signature: Signature) -> Layout:
    tensor: Tensor = signature.inputs[0]
    if not tensor.shape:  # a PyTorch module, which does not tell
        return "nchw"
    sides = tensor.shape[1:] if len(tensor.shape) == 4 else tensor.shape
    fits = {"nchw": sides[0] in (1, 3), "nhwc": sides[-1] in (1, 3)} if len(sides) == 3 else {}
    found = [layout for layout in get_args(Layout) if fits.get(layout)]
    if len(found) != 1:
        raise InvalidData(
            f"The model takes {tensor}, and which axis holds the colors can't be told from it. Say it under "
            "[preprocessing]: layout = 'nchw' or 'nhwc'."
        )
    layout: Layout = found[0]
    return layout


def _resized(size: tuple[int, int], wanted: Size) -> tuple[int, int]:
    """Width and height, as Pillow has them; of the longer side the whole part, as is usual."""
    if isinstance(wanted, tuple) and len(wanted) == 2:
        return wanted[1], wanted[0]
    side = wanted[0] if isinstance(wanted, tuple) else wanted
    width, height = size
    return (side, max(1, side * height // width)) if width <= height else (max(1, side * width // height), side)


def _middle(size: tuple[int, int], wanted: Size, file: Path) -> tuple[int, int, int, int]:
    """Left, upper, right and lower edge."""
    high, wide = wanted if isinstance(wanted, tuple) and len(wanted) == 2 else (np.ravel(wanted)[0],) * 2
    width, height = size
    if wide > width or high > height:
        raise InvalidData(
            f"An image must be at least as large as the crop, {high} x {wide}, and {file} is {height} x {width}. "
            "Resize first, under [preprocessing]."
        )
    left, upper = round((width - wide) / 2), round((height - high) / 2)
    return left, upper, left + int(wide), upper + int(high)


def _by(size: Size) -> str:
    return " x ".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _must(holds: bool, name: str, rule: str, preprocessing: Preprocessing) -> None:
    if not holds:
        value = told(getattr(preprocessing, name), repr)
        raise InvalidPlan(f"{name} of the pre-processing must be {rule}, not {value}.")
