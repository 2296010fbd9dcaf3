"""Where encoded pictures come from: image folders, parquet files, tar files."""

from __future__ import annotations

import glob
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from .parameters import InputError
from .sources import Listing, missing
from .specs import Folder, Parquet


def list_folder(root: Path, spec: Folder, flat: bool = False) -> Listing:
    """List an image folder: one folder a class, or with `flat` also pictures without class folders."""
    folder = root / Path(spec.path).expanduser()
    if not folder.is_dir():
        raise missing(folder, root)
    loose = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in IMG_EXTENSIONS)
    if flat and loose:
        return Listing(loose, None, loose)
    try:
        classes, number = find_classes(folder)
        samples = make_dataset(str(folder), number, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: {error} Every class folder must hold a picture; remove or fill the empty ones."
        ) from None
    paths = [path for path, _ in samples]
    return Listing(paths, [classes[i] for _, i in samples], paths)


def list_parquet(root: Path, spec: Parquet, names_only: bool = False) -> Listing:
    """List the pictures of one or many parquet files; `names_only` leaves the pictures' bytes on the disk."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    files = sorted(glob.glob(str(root / Path(spec.path).expanduser())))
    if not files:
        raise missing(root / spec.path, root)
    items, names, places = [], [], []
    for file in files:
        wanted = [spec.image, spec.label] + (["split"] if spec.split else [])
        filters = [("split", "==", spec.split)] if spec.split else None
        try:
            present = pq.read_schema(file).names
            if not set(wanted) <= set(present):
                raise InputError(f"{file} has the columns {', '.join(present)}; the YAML asks for {', '.join(wanted)}.")
            columns = [spec.label] if names_only else [spec.image, spec.label]
            table = pq.read_table(file, columns=columns, filters=filters).to_pydict()
        except (ArrowException, OSError) as error:
            raise InputError(f"{file} cannot be read as a parquet file ({error}). Copy or download it again.") from None
        names += [str(v) for v in table[spec.label]]
        places += [f"{file}, row {i}" for i in range(len(table[spec.label]))]
        # Hugging Face writes {"bytes": …, "path": …}; a plain table holds the bytes themselves.
        items += [v["bytes"] if isinstance(v, dict) else v for v in table.get(spec.image, [])]
    if not names:
        raise InputError(f"{root / spec.path} has no rows with split == {spec.split!r}.")
    return Listing(items, names, places)
