"""No post-processing: what the networks say stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from seg import Exit, Labels, Record, SegError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@frozen(kw_only=True)
class NoPostprocessor:
    """Learns nothing and changes nothing."""

    def learn(
        self,
        cases: Sequence[Callable[[], tuple[NDArray[Any], NDArray[Any]]]],  # noqa: ARG002 - of the contract
        labels: Labels,  # noqa: ARG002 - of the contract
    ) -> tuple[str, ...]:
        """No steps; no case is read."""
        return ()

    def apply(self, predicted: NDArray[Any], labels: Labels, steps: Sequence[str]) -> NDArray[Any]:  # noqa: ARG002
        """A copy of `predicted`, ids (Z, Y, X).

        Raises:
            SegError: there is a step, which must be another component's (exit 7).
        """
        if steps:
            raise SegError(Record(code="SEG-M06", found=f"the step of post-processing {steps[0]!r}",
                                  expected="no steps"), Exit.UNSAFE)
        return predicted.copy()
