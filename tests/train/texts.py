"""Training rows as text."""


def with_texts(vlm, row):
    """A row with its tokens as text too: `prompt` and `completion`."""
    decode = vlm.processor.tokenizer.decode
    return row | {"prompt": decode(row["prompt_ids"]), "completion": decode(row["completion_ids"])}
