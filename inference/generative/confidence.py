"""The confidence of a prediction: one number from 0 to 1 from all that is known without the truth."""

import numpy as np

from geoclick.inference.generative.prediction import Prediction


def of(prediction: Prediction) -> float | None:
    """The confidence of a prediction; None if nothing is known.

    - With a mask: the product of the segmenter's predicted IoU and the geometric mean of the probabilities of the
      answer's tokens.
    - An answer that there is no target: the probability of that answer, the product over its tokens, which is the
      model's probability that the target is absent.
    - Several sampled answers: `agreement`, times the predicted IoU where there is a mask.
    - An answer that cannot be read: 0.

    What a backend does not know is left out of a product.
    """
    if prediction.status == "unparsable":
        return 0.0
    masked = bool(prediction.mask.any())
    factors = [prediction.score] if masked else []
    if prediction.agreement is not None:
        factors.append(prediction.agreement)
    elif masked:
        factors.append(prediction.probability)
    elif prediction.probability is not None and prediction.tokens:
        factors.append(prediction.probability**prediction.tokens)
    known = [min(max(factor, 0.0), 1.0) for factor in factors if factor is not None]
    return float(np.prod(known)) if known else None
