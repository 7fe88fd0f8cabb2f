"""An image as a question to a server, and whether an answer to it is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.running.program import WrongAnswer
from tumour_segmenter import client
from tumour_segmenter.errors import ContractError
from tumour_segmenter.folders import counted

Model = Callable[[np.ndarray], np.ndarray]  # grey pixels to a mask


@dataclass
class Question:
    """One image of (H, W) `shape` as the JSON to post, and its right answer if that is known.

    `mask` is uint8 H×W, None if any well-formed mask will do; `replies` are bodies that were
    decoded and found right, so that checking a timed answer costs a comparison of bytes.
    """

    body: bytes
    shape: tuple[int, ...]
    mask: np.ndarray | None = None
    replies: set[bytes] = field(default_factory=set)

    @classmethod
    def about(cls, pixels: np.ndarray) -> Question:
        """The question about grey `pixels`, uint8 H×W, to which any well-formed mask will do."""
        return cls(client.request_body(pixels), pixels.shape)

    def fault(self, reply: client.Reply) -> str:
        """What is wrong with `reply`, empty if nothing."""
        if reply.status == 200 and reply.body in self.replies:
            return ""
        try:
            mask = client.read_mask(reply, self.shape)
        except ContractError as error:
            return f"malformed: {error}"
        if self.mask is not None and (wrong := np.count_nonzero(mask != self.mask)):
            return f"wrong: differs from the first answer in {counted(wrong, 'pixel')}"
        self.replies.add(reply.body)
        return ""


def learn(url: str, pixels: np.ndarray, reference: Model | None = None) -> Question:
    """Asks once about `pixels`, uint8 H×W, so that later answers can be compared.

    With a `reference` the answer must be the same to the last pixel. Raises WrongAnswer, and
    UsageError where the server answers no question of ours.
    """
    size = f"{pixels.shape[1]}×{pixels.shape[0]}"
    body = client.request_body(pixels)
    try:
        reply = client.ask(url, "/predict", body)
        client.refuse(url, reply)
        mask = client.read_mask(reply, pixels.shape)
    except (client.Unanswered, ContractError) as error:
        raise WrongAnswer(f"{size}: {error}") from error
    if reference and (wrong := np.count_nonzero(mask != reference(pixels))):
        raise WrongAnswer(
            f"{size}: differs from the model called directly in {counted(wrong, 'pixel')}"
        )
    return Question(body, pixels.shape, mask, {reply.body})
