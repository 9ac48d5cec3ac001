"""Cheaper forms of a planned configuration, for a time budget that its network would not get enough steps in."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from seg import Configuration

BATCH = {2: 12, 3: 2}  # nnU-Net's reference batches; a step on more patches is not worth its time when steps are few
HALVINGS = 3
NARROWEST = 4  # features of the first stage


def reductions(configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
    """`configuration` with the batch lowered, then also with the features halved, up to three times."""
    batch = BATCH[configuration.dims]
    if configuration.batch > batch:
        reason = f"Batch {batch} instead of {configuration.batch}, so that more steps fit the time budget."
        configuration = evolve(configuration, batch=batch, reasons={**configuration.reasons, "batch": reason})
        yield configuration, reason
    for _ in range(HALVINGS):
        before = configuration.topology.features
        if before[0] // 2 < NARROWEST:
            return
        after = tuple(features // 2 for features in before)
        reason = (f"{after[0]} to {after[-1]} features instead of {before[0]} to {before[-1]}, so that more steps fit "
                  "the time budget.")
        topology = evolve(configuration.topology, features=after)
        configuration = evolve(configuration, topology=topology, reasons={**configuration.reasons, "topology": reason})
        yield configuration, reason
