"""Prints what models in transformers' layout make of an image, a line of JSON each: run by any version's interpreter.

python first_logits.py FOLDER...
"""

import json
import sys

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

image = np.random.default_rng(0).integers(0, 255, (96, 80, 3), dtype=np.uint8)
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the barn"}]}]
for folder in sys.argv[1:]:
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    with torch.no_grad():
        logits = model.float()(**inputs).logits[0]
    values = {
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(report["unexpected_keys"]),
        "dtype": str(model.config.dtype),
        "tokens": inputs["input_ids"].tolist(),
        "grid": inputs["image_grid_thw"].tolist(),
        "pixels": inputs["pixel_values"].double().mean().item(),
        "text": processor.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True),
        "stop": processor.tokenizer.eos_token_id,
        "logits": logits.tolist(),
    }
    print(json.dumps(values))
