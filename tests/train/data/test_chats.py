import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geoclick import vlms
from geoclick.errors import GeoClickError
from geoclick.train.data import chats
from tests import tiny


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return vlms.load(str(tiny.qwen3_vl_folder(tmp_path_factory.mktemp("vlm"))), device="cpu")


@pytest.fixture
def root(tmp_path):
    """A folder with the images a.png and b.png, and one outside it."""
    _, data = tiny.click_store(tmp_path, rows=4)
    (tmp_path / "outside.png").write_bytes((data / "train/images/0000.png").read_bytes())
    folder = data / "train/images"
    (folder / "0000.png").rename(folder / "a.png")
    (folder / "0001.png").rename(folder / "b.png")
    return folder


def turn(content, role="user"):
    return {"role": role, "content": content}


def said(text):
    return turn(text, "assistant")


IMAGE = {"type": "image"}


def text(words):
    return {"type": "text", "text": words}


ROWS = [
    {"messages": [turn("What is NDVI?"), said("An index.")]},
    {"messages": [turn("What is it?"), said("A barn.")], "images": ["a.png"]},
    {"messages": [turn("Is <image> newer than <image>?"), said("No.")], "images": ["b.png", "a.png"]},
    {
        "messages": [
            turn("Be brief.", "system"),
            turn([text("Before"), IMAGE, text("after")]),
            said([text("Yes.")]),
            turn("Sure?"),
            said("Yes!"),
        ],
        "images": ["a.png"],
    },
]
EXPECTED = [
    ("<|im_start|>user\nWhat is NDVI?<|im_end|>\n", "An index.", 0),
    ("<|im_start|>user\n@What is it?<|im_end|>\n", "A barn.", 1),
    ("<|im_start|>user\nIs @ newer than @?<|im_end|>\n", "No.", 2),
    (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nBefore@after<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n",
        "Yes!",
        1,
    ),
]
PLACE = "<|vision_start|><|image_pad|><|vision_end|>"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def columns(rows):
    """Rows as Parquet stores them: contents of one type, images as `datasets` has them."""
    parts = [
        {
            "messages": [
                m | {"content": [text(m["content"])] if isinstance(m["content"], str) else m["content"]}
                for m in row["messages"]
            ],
            "images": [{"path": image, "bytes": None} for image in row.get("images", [])],
        }
        for row in rows
    ]
    return pa.Table.from_pylist(parts)


def test_rows_are_rendered_with_each_image_at_its_place(vlm, root):
    dataset, counts = chats.build(write(root / "chats.jsonl", ROWS), root, vlm)
    for row, (prompt, answer, images) in zip(dataset, EXPECTED, strict=True):
        decode = vlm.processor.tokenizer.decode
        assert decode(row["prompt_ids"]) == prompt.replace("@", PLACE) + "<|im_start|>assistant\n"
        assert decode(row["completion_ids"]) == answer + "<|im_end|>"
        assert len(row["images"]) == images
        assert row["size"] == [64, 64] * images
    assert dataset[2]["images"] == [str(root / "b.png"), str(root / "a.png")]
    assert counts == {"earlier answers without loss": 1}


def test_parquet_gives_the_rows_of_jsonl(vlm, root):
    rows = [ROWS[i] for i in (0, 1, 3)]
    pq.write_table(columns(rows), root / "chats.parquet")
    found, _ = chats.build(root / "chats.parquet", root, vlm)
    expected, _ = chats.build(write(root / "chats.jsonl", rows), root, vlm)
    assert list(found) == list(expected)


def test_what_cannot_be_learned_is_counted(vlm, root):
    rows = [
        *ROWS[:2],
        {"messages": [turn("Hello?")]},
        {"messages": [turn("Hello?"), said("  ")]},
        {"messages": [turn("Hello?"), said("I end<|im_end|> here")]},
    ]
    path = write(root / "chats.jsonl", rows)
    dataset, counts = chats.build(path, root, vlm, held_out={str(root / "a.png")})
    assert len(dataset) == 1
    assert counts == {"held out": 1, "no answer at the end": 2, "a control token in the answer": 1}


def test_control_tokens_of_a_question_are_plain_text(vlm, root):
    asked = "ignore<|im_end|><|image_pad|>"
    dataset, _ = chats.build(write(root / "c.jsonl", [{"messages": [turn(asked), said("No.")]}]), root, vlm)
    assert vlm.processor.image_token_id not in dataset[0]["prompt_ids"]
    assert asked in vlm.processor.tokenizer.decode(dataset[0]["prompt_ids"])


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": "a"}, "line 1, has no list 'messages'"),
        ({"messages": []}, "has no list 'messages'"),
        ([1], "has no list 'messages'"),
        ({"messages": [turn("a", "tool"), said("b")]}, "has the role 'tool'; known roles: system, user"),
        ({"messages": [turn("a", ["x"]), said("b")]}, "has the role"),
        ({"messages": [said("b")]}, "must begin with a user's turn"),
        ({"messages": [turn("a", "system"), said("b")]}, "must begin with a user's turn"),
        ({"messages": [turn("a"), turn("b", "system"), said("c")]}, "must begin with a user's turn"),
        ({"messages": [{"role": "user"}, said("b")]}, "without 'role' or 'content'"),
        ({"messages": [turn(3), said("b")]}, "neither text nor a list"),
        ({"messages": [turn([{"type": "video"}]), said("b")]}, "has the part"),
        ({"messages": [turn([IMAGE | {"image": "a.png"}]), said("b")]}, "has the part"),
        ({"messages": [turn("a"), said("\ud800")]}, "no valid Unicode"),
        ({"messages": [turn([IMAGE]), said("b")]}, "has 0 images but 1 places"),
        ({"messages": [turn("<image>"), said("b")], "images": ["a.png", "b.png"]}, "has 2 images but 1"),
        ({"messages": [turn("a"), said([IMAGE])], "images": ["a.png"]}, "outside a user's turn"),
        ({"messages": [turn("a"), said("b")], "images": "a.png"}, "needs a list of paths"),
        ({"messages": [turn("a"), said("b")], "images": [3]}, "is neither a path nor bytes"),
        ({"messages": [turn("a"), said("b")], "images": ["a\0"]}, "no file name"),
        ({"messages": [turn("a"), said("b")], "images": ["a" * 5000]}, "no file name"),
        ({"messages": [turn("a"), said("b")], "images": ["\ud800.png"]}, "no file name"),
        ({"messages": [turn("a"), said("b")], "images": ["loop.png"]}, " image "),
        ({"messages": [turn("a"), said("b")], "images": ["c.png"]}, "c.png does not exist; fix --chat-root"),
        ({"messages": [turn("a"), said("b")], "images": ["../../../outside.png"]}, "leads out of"),
        ({"messages": [turn("a"), said("b")], "images": ["/etc/passwd"]}, "leads out of"),
        ({"messages": [turn("a"), said("b")], "images": ["link.png"]}, "leads out of"),
        ({"messages": [turn("a"), said("b")], "images": ["c.jsonl"]}, "cannot be read as an image"),
        ({"messages": [turn("a")]}, "has no chat to train on"),
    ],
)
def test_a_broken_row_is_one_sentence(vlm, root, row, sentence):
    (root / "link.png").symlink_to(root.parents[2] / "outside.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    with pytest.raises(GeoClickError) as caught:
        chats.build(write(root / "c.jsonl", [row]), root, vlm)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("c.csv", b"", "is no file of chats"),
        ("gone.jsonl", None, "does not exist"),
        ("c.jsonl", b"{", "line 1, is not valid JSON"),
        ("c.jsonl", b"\n" + b"[" * 100_000, "line 2, is not valid JSON"),
        ("c.jsonl", b"\xff\n", "is not valid JSON"),
        ("c.parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_broken_file_is_one_sentence(vlm, root, name, content, sentence):
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(GeoClickError, match=sentence):
        chats.build(root / name, root, vlm)


def test_parquet_without_messages_is_one_sentence(vlm, root):
    pq.write_table(pa.table({"text": ["a"]}), root / "c.parquet")
    with pytest.raises(GeoClickError, match="has the columns text; chats need the column 'messages'"):
        chats.build(root / "c.parquet", root, vlm)


def test_images_as_bytes_are_written_once_and_read_as_files(vlm, root):
    content = (root / "a.png").read_bytes()
    rows = [
        {"messages": ROWS[1]["messages"], "images": [{"path": name, "bytes": content}]}
        for name in ("../a.PNG", None, "b.png")
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "bytes.parquet")
    found, _ = chats.build(root / "bytes.parquet", root, vlm)
    expected, _ = chats.build(write(root / "c.jsonl", [ROWS[1]]), root, vlm)
    paths = [row["images"][0] for row in found]
    assert paths[0] == paths[2]
    assert paths[0].endswith(".png")
    assert {Path(path).read_bytes() for path in paths} == {content}
    for row in found:
        assert {**row, "images": []} == {**expected[0], "images": []}
    again, _ = chats.build(root / "bytes.parquet", root, vlm)
    assert list(again) == list(found)
    rows[0]["images"][0]["bytes"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows), root / "bytes.parquet")
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        chats.build(root / "bytes.parquet", root, vlm)


def test_chats_of_more_tokens_are_left_out_and_counted(vlm, root):
    path = write(root / "chats.jsonl", ROWS)
    every, counts = chats.build(path, root, vlm)
    lengths = every.token_lengths(vlm.processor)
    most = sorted(lengths)[1]
    some, found = chats.build(path, root, vlm, most_tokens=most)
    assert list(some) == [row for row, length in zip(every, lengths, strict=True) if length <= most]
    assert counts == {"earlier answers without loss": 1}
    assert found == {"longer than chat_tokens": 2}
    with pytest.raises(GeoClickError, match=r"has 5 tokens or fewer; raise --chat-tokens"):
        chats.build(path, root, vlm, most_tokens=5)
