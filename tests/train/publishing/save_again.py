"""Saves models and their processors with this interpreter's transformers: python save_again.py FOLDER OUTPUT ..."""

import sys

from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

for folder, output in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(output)
    processor = AutoProcessor.from_pretrained(folder)
    # The processor alone would save it under the class of Qwen's tokenizer, which these are not.
    processor.tokenizer = AutoTokenizer.from_pretrained(folder)
    processor.save_pretrained(output)
