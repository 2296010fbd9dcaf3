"""Pictures under the corruptions of ImageNet-C, made by a library.

They are not those of the published CIFAR-10-C: what is made here takes ImageNet-C's constants at every size, and those
behind CIFAR-10-C are milder. So a result names the `origin` of its pictures.

A variant is one corruption at one severity, counted name by name. Rows are pictures under variants (`variant_of`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib import metadata
from itertools import product
from threading import Lock

import numpy as np

from .parameters import InputError, nearest

# The 15 that a mean corruption error is taken over and the 4 that are kept for tuning (Hendrycks & Dietterich 2019,
# https://arxiv.org/abs/1903.12261). A picture's seed counts in this order: a new name goes to the end.
STANDARD = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
CORRUPTIONS = (*STANDARD, "speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)
LIBRARY = "imagecorruptions-imaug"
INSTALL = f'Corrupted pictures are made by {LIBRARY}: pip install -e ".[corruptions]".'
# These two draw from a generator of their own, the others from numpy's global one.
_OWN_SEED = {"impulse_noise", "glass_blur"}
_GLOBAL_GENERATOR = Lock()


def variant_of(row, pictures: int, variants: int):
    """Return which picture, under which variant, a row holds: a Latin square.

    Row k * pictures + p is picture p under variant (p + k) mod variants. So any stretch of `pictures` rows from a
    multiple of it holds every picture once and the variants in equal share, and all rows hold every pair once.

    Parameters
    ----------
    row : int or ndarray of int
        0 to pictures * variants - 1.
    pictures, variants : int

    Returns
    -------
    picture, variant : int or ndarray of int
        Shaped as `row`.
    """
    turn, picture = divmod(row, pictures)
    return picture, (picture + turn) % variants


def corrupt(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Return a picture under one of `CORRUPTIONS`, the same for the same seed whatever else draws random numbers.

    Parameters
    ----------
    image_HWC : ndarray of uint8, shape (H, W, 3)
        At least 32 px wide and high.
    name : str
    severity, seed : int
        1 to 5; 0 to 2**32 - 1.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    InputError
        For an unknown name or severity, another picture, or where the library is not installed.
    """
    check_names([name], [severity])
    shape = image_HWC.shape
    if image_HWC.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < 32:
        raise InputError(
            f"a picture of {image_HWC.dtype} {shape} cannot be corrupted: it takes uint8 (H, W, 3) of 32 px or more. "
            "Give the benchmark a side of at least 32."
        )
    try:
        from imagecorruptions import corrupt as apply
    except ImportError as error:  # also where OpenCV misses a library of the system
        raise InputError(f"{INSTALL} ({error})") from None
    own = {"seed": seed} if name in _OWN_SEED else {}
    # numpy's global generator is one for all threads: it is lent to one picture at a time, and given back as it was.
    with _GLOBAL_GENERATOR:
        before = np.random.get_state()  # noqa: NPY002 what the library draws from
        try:
            np.random.seed(seed)  # noqa: NPY002
            return apply(np.asarray(image_HWC), severity=int(severity), corruption_name=name, **own)
        finally:
            np.random.set_state(before)  # noqa: NPY002


def library() -> str:
    """Return name and version of the library that makes the pictures; InputError where it is not installed."""
    try:
        return f"{LIBRARY} {metadata.version(LIBRARY)}"
    except metadata.PackageNotFoundError:
        raise InputError(INSTALL) from None


def check_names(names: Sequence[str], severities: Sequence[int] = ()) -> None:
    """Stop with an InputError at a corruption or severity that there is not."""
    for what, given, known in (("corruption", names, CORRUPTIONS), ("severity", severities, SEVERITIES)):
        for value in given:
            if value not in known:
                allowed = ", ".join(map(str, known))
                raise InputError(f"{what} {value!r} is refused.{nearest(value, known)} Known: {allowed}.")


class VariantRows(Sequence):
    """Every picture under every variant, in the order of `variant_of`: an int gives one, an array or a slice many."""

    def __init__(self, pictures: int, names: Sequence[str], severities: Sequence[int]):
        check_names(names, severities)
        self.pictures, self.variants = pictures, list(product(names, severities))

    def __len__(self) -> int:
        return self.pictures * len(self.variants)

    def __getitem__(self, row):
        one = isinstance(row, int | np.integer)
        # The range counts from the end below zero, and ends a loop with its IndexError.
        rows = np.array([range(len(self))[row]]) if one else np.arange(len(self))[row]
        images_NHWC = self._read(*variant_of(rows, self.pictures, len(self.variants)))
        return images_NHWC[0] if one else images_NHWC

    @abstractmethod
    def _read(self, picture_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray: ...

    @property
    def places(self) -> Sequence[str]:
        """What a message calls each row, such as "gaussian_noise 3, picture 17"; spelled when it is asked for."""
        return _Places(self)


class _Places(Sequence):
    def __init__(self, rows: VariantRows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> str:
        picture, variant = variant_of(range(len(self))[row], self._rows.pictures, len(self._rows.variants))
        name, severity = self._rows.variants[variant]
        return f"{name} {severity}, picture {picture}"


class CorruptedItems(VariantRows):
    """Pictures under corruptions, each made when its row is asked for.

    A picture depends on its number, corruption and severity alone, so it is the same in every order, part and thread,
    and stays when other corruptions are added. Another version of the library may draw others: see `origin`.

    Parameters
    ----------
    source : sequence
        The clean pictures; an int gives one, uint8 (H, W, 3).
    names, severities : sequence
        Of `CORRUPTIONS` and `SEVERITIES`.
    """

    def __init__(self, source: Sequence[np.ndarray], names: Sequence[str], severities: Sequence[int] = SEVERITIES):
        super().__init__(len(source), names, severities)
        self.source = source
        self.origin = f"made by {library()}"

    def _read(self, picture_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray:
        made = []
        for picture, variant in zip(picture_N.tolist(), variant_N.tolist()):
            name, severity = self.variants[variant]
            seeds = np.random.SeedSequence([picture, CORRUPTIONS.index(name), severity])
            made.append(corrupt(self.source[picture], name, severity, int(seeds.generate_state(1)[0])))
        return np.array(made, dtype=np.uint8)
