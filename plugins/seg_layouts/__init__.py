"""How folders are read as data sets: nnU-Net raw, Medical Segmentation Decathlon, plain folders, lists of files."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_layouts() -> Iterable[Offer]:
    """Offer the layouts, the most specific first: the first that recognises a path reads it."""
    yield Offer("nnunet", "seg_layouts.nnunet:NnUNetLayout", "nnU-Net raw: dataset.json, imagesTr, labelsTr.")
    yield Offer("decathlon", "seg_layouts.decathlon:DecathlonLayout", "dataset.json with a `training` list.")
    yield Offer("folders", "seg_layouts.folders:FoldersLayout", "images/ and labels/ with equal names.")
    yield Offer("filelist", "seg_layouts.filelist:FileListLayout", "A CSV or JSON list of image and label files.")
