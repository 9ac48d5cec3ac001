"""Models as ONNX files, for programs that know nothing of seg or torch."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_exporters() -> Iterable[Offer]:
    """Offer ONNX."""
    yield Offer("onnx", "seg_onnx.exporter:OnnxExporter", "A file for each network, and what is to be done around it.")
