"""How the answers of a VLM are generated: their format and length, sampling, votes and rounds."""

from dataclasses import dataclass

from geoclick.vlms import Vlm
from geoclick.yaml_file import Yaml


@dataclass(frozen=True)
class Votes:
    """How many answers to a query are sampled, and how they are put together.

    Attributes:
        samples: answers to each query; 1 takes the answer as it is.
        threshold: a pixel is in the mask if more than this share of the masks hold it.
    """

    samples: int = 1
    threshold: float = 0.5


ONE_ANSWER = Votes()


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How the model's answers are generated.

    Attributes:
        answer_format: `json` or `compact`; None takes the model's, see `default_format`.
        max_new_tokens: length limit of an answer; None takes the default of the format.
        temperature: 0 takes the most likely token; above 0 samples.
        seed: of the sampling, so that an answer depends on it, on image, query and its number only; None samples from
            torch's global generator.
        constrained: whether the format of the answers is enforced.
        votes: how many answers to a query are sampled.
        rounds: how often a query is asked, each time with the mask so far, see geoclick/inference/generative/rounds.py.
        batch_size: queries in one call of the model.
        compile: whether the step of one token is compiled, which is faster on a GPU for many batches.
    """

    answer_format: str | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    constrained: bool = False
    votes: Votes = ONE_ANSWER
    rounds: int = 1
    batch_size: int = 16
    compile: bool = False

    @property
    def seeded(self) -> bool:
        """Whether answers are sampled with seeds of their own."""
        return self.temperature > 0 and self.seed is not None

    def describe(self) -> dict[str, Yaml]:
        """The part of a protocol or record about what is not the default."""
        sampled: dict[str, Yaml] = {"samples": self.votes.samples, "vote_threshold": self.votes.threshold}
        rounds: dict[str, Yaml] = {"rounds": self.rounds} if self.rounds > 1 else {}
        return (
            rounds
            | ({"constrained": True} if self.constrained else {})
            | (sampled if self.votes.samples > 1 else {})
        )


def default_format(vlm: Vlm) -> str:
    """The answer format that the adapter or the merged model was trained in, else `json`."""
    return vlm.record.answer_format if vlm.record else "json"
