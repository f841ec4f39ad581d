"""The provenance of an adapter and of a merged model, without any weights."""

from geoclick.train.publishing.provenance import Provenance
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.merged import MergedRecord

RECORD = AdapterRecord(
    base="Qwen/Qwen3-VL-2B-Instruct",
    revision="0123abcd",
    family="qwen3_vl",
    fingerprint="aa",
    answer_format="compact",
    min_pixels=64,
    max_pixels=4096,
    targets=r"layers\.\d+\.(q|v)_proj",
    versions={"torch": "2.9"},
    git_commit="beef",
    config={"clicks": "/home/somebody/clicks", "root": "/home/somebody/DATA", "lora_r": 32, "max_clicks": 6},
)
DATA = {"dataset": "coco", "split": "train", "samples": 9, "segmenter": "sam_vit_l", "policy": "center"}
TRAINING = {"rows": 7, "rows_left_out": {"below min_iou": 2}, "steps": 3}
ADAPTER = Provenance(RECORD, "cc", DATA, TRAINING)
MERGED = Provenance(
    RECORD,
    "cc",
    DATA,
    TRAINING,
    MergedRecord(
        fingerprint="bb",
        dtype="bfloat16",
        adapter=RECORD,
        adapter_sha256="cc",
        check={"questions": 24, "same_answers": 23},
    ),
)
