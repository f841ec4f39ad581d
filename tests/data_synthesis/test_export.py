import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import codec, prompts, store
from geoclick.clicks import Click
from geoclick.data_synthesis.export import PIXEL_LIMITS, TAGS, ExportOptions, main, resized_size, run
from geoclick.errors import GeoClickError, UsageError
from tests import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.click_store(tmp_path_factory.mktemp("data"), rows=10, side=100)


def settings(data, output, **changes):
    options = {"layout": "ms-swift", "output": str(output)} | changes
    return ExportOptions(store=str(data[0]), root=str(data[1]), **options)


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def one_row_store(folder, **changes):
    """A click store of its own with the second row of the tiny one, changed."""
    _, root = tiny.click_store(folder / "tiny", rows=2)
    row = replace(list(store.read(folder / "tiny/clicks"))[1], **changes)
    store.write_shard(folder / "one", 0, 1, [row])
    store.write_manifest(folder / "one", {})
    return folder / "one", root


@pytest.mark.parametrize("layout", PIXEL_LIMITS)
@pytest.mark.parametrize("family", codec.FAMILIES)
@pytest.mark.parametrize("answer_format", codec.FORMATS)
def test_every_line_asks_our_prompt_and_answers_the_stored_clicks(
    data, tmp_path, layout, family, answer_format
):
    run(settings(data, tmp_path, layout=layout, family=family, answer_format=answer_format))
    rows = list(store.read(data[0]))
    for line, row in zip(lines_of(tmp_path / "geoclick.jsonl"), rows, strict=True):
        user, assistant = line["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        asked = prompts.messages(row.query, answer_format=answer_format)[0]["content"][1]["text"]
        assert user["content"] == f"<image>{asked}"
        (image,) = line["images"]
        assert Path(image).is_absolute()
        assert Path(image).samefile(data[1] / row.image)
        size = (row.height, row.width)
        resized = resized_size(size, layout, PIXEL_LIMITS[layout])
        answer = codec.decode(
            assistant["content"],
            family=family,
            answer_format=answer_format,
            image_size=size,
            resized_size=resized,
        )
        assert answer.status == ("ok" if row.clicks else "empty")
        assert [click.positive for click in answer.clicks] == [click.positive for click in row.clicks]
        quantum = max(np.array(size) / (resized if family == "qwen2_5_vl" else 1000))
        for read, written in zip(answer.clicks, row.clicks, strict=True):
            assert max(abs(read.x - written.x), abs(read.y - written.y)) <= quantum


def test_datasets_reads_both_the_export_and_the_store(data, tmp_path):
    datasets = pytest.importorskip("datasets")
    run(settings(data, tmp_path / "out", layout="llama-factory"))

    def load(kind, files):
        return datasets.load_dataset(kind, data_files=str(files), cache_dir=str(tmp_path / "cache"))["train"]

    info = json.loads((tmp_path / "out/dataset_info.json").read_text())["geoclick"]
    table = load("json", tmp_path / "out" / info["file_name"])
    assert set(info["columns"].values()) == set(table.column_names) == {"messages", "images"}
    assert info["formatting"] == "sharegpt"
    assert set(table[0]["messages"][0]) == {info["tags"]["role_tag"], info["tags"]["content_tag"]}
    assert list(table) == lines_of(tmp_path / "out/geoclick.jsonl")
    for turns in table["messages"]:
        assert [turn["role"] for turn in turns] == [info["tags"]["user_tag"], info["tags"]["assistant_tag"]]
    rows, stored = list(store.read(data[0])), load("parquet", data[0] / "*.parquet")
    assert stored["sample_id"] == [row.sample_id for row in rows]
    assert [[Click(**click) for click in clicks] for clicks in stored["clicks"]] == [
        list(r.clicks) for r in rows
    ]
    assert stored["mask"] == [row.mask for row in rows]


def test_only_llama_factory_gets_a_dataset_info(data, tmp_path):
    run(settings(data, tmp_path, name="ours-1.2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.yaml",
        "manifest.json",
        "ours-1.2.jsonl",
    ]


@pytest.mark.parametrize(
    "options", [{}, {"max_clicks": 1}, {"min_iou": 0.65}, {"max_clicks": 2, "min_iou": 0.55}]
)
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_it_is_what_our_own_training_takes(data, tmp_path, family, options):
    from geoclick import vlms
    from geoclick.train.data import rows

    vlm = vlms.load(str(tiny.FOLDERS[family](tmp_path / "vlm")))
    wanted = {"max_clicks": 6, "min_iou": 0.0} | options
    ours, left_out = rows.build(*data, vlm, answer_format="compact", **wanted)
    # The tiny processors resize every image to this area.
    run(settings(data, tmp_path / "out", family=family, min_pixels=56 * 56, max_pixels=56 * 56, **options))
    lines, manifest = lines_of(tmp_path / "out/geoclick.jsonl"), manifest_of(tmp_path / "out")
    assert [line["messages"][1]["content"] for line in lines] == [
        completion.removesuffix("<|im_end|>")
        for completion in vlm.processor.tokenizer.batch_decode([row["completion_ids"] for row in ours])
    ]
    assert [line["images"] for line in lines] == [row["images"] for row in ours]
    assert manifest["left_out"] == left_out
    assert manifest["rows"] == len(lines) == len(ours)


def test_the_manifest_counts(data, tmp_path):
    run(settings(data, tmp_path, max_clicks=2, min_iou=0.55))
    rows = list(store.read(data[0]))
    kept = [row for row in rows if not row.clicks or row.ious[:2][-1] >= 0.55]
    manifest = manifest_of(tmp_path)
    assert 0 < len(kept) < len(rows)
    assert manifest["rows"] + sum(manifest["left_out"].values()) == len(rows)
    assert manifest["rows"] == len(kept)
    assert manifest["no_target"] == sum(not row.clicks for row in kept)
    assert manifest["clicks"] == sum(len(row.clicks[:2]) for row in kept)
    assert manifest["images"] == len({row.image for row in kept})
    assert manifest["store"] == store.read_manifest(data[0])
    assert (manifest["prompt_version"], manifest["max_pixels"]) == (prompts.PROMPT_VERSION, None)


def test_the_same_store_gives_the_same_bytes(data, tmp_path):
    run(settings(data, tmp_path / "a"))
    run(settings(data, tmp_path / "b"))
    for name in ("geoclick.jsonl", "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("tag", TAGS)
def test_a_query_with_a_tag_of_the_tools_is_left_out(tmp_path, tag):
    stored = one_row_store(tmp_path, query=f"the {tag} by the road")
    with pytest.raises(GeoClickError, match="1 a tag of the tools in the query"):
        run(settings(stored, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("layout", PIXEL_LIMITS)
def test_relative_paths_are_those_below_the_root(data, tmp_path, layout, capsys):
    run(settings(data, tmp_path / "a"))
    run(settings(data, tmp_path / "r", layout=layout, paths="relative"))
    absolute, relative = (lines_of(tmp_path / name / "geoclick.jsonl") for name in "ar")
    for one, two, row in zip(absolute, relative, store.read(data[0]), strict=True):
        assert two["images"] == [row.image]
        assert one["images"] == [str(data[1].resolve() / row.image)]
    command = capsys.readouterr().out.splitlines()[-1]
    place = {"ms-swift": f"next: ROOT_IMAGE_DIR={data[1].resolve()} swift sft", "llama-factory": "media_dir="}
    assert f"{place[layout]}" in command
    assert str(data[1].resolve()) in command


@pytest.mark.parametrize("layout", PIXEL_LIMITS)
def test_a_validation_split_holds_complete_images(data, tmp_path, layout, capsys):
    changes = {"layout": layout, "validation_share": 0.4, "name": "ours"}
    run(settings(data, tmp_path / "one", **changes))
    run(settings(data, tmp_path / "two", paths="relative", **changes))
    out = tmp_path / "one"
    train, held = (lines_of(out / name) for name in ("ours.jsonl", "ours_validation.jsonl"))
    images = [{image for line in lines for image in line["images"]} for lines in (train, held)]
    assert not images[0] & images[1]
    assert [len(names) for names in images] == [3, 2]
    manifest = manifest_of(out)
    assert (manifest["rows"], manifest["validation_rows"]) == (10, len(held)) == (10, 4)
    assert manifest["validation_file"] == "ours_validation.jsonl"
    # The split depends on neither the form of the paths nor the place of the dataset.
    again = lines_of(tmp_path / "two/ours_validation.jsonl")
    assert [str(data[1].resolve() / line["images"][0]) for line in again] == [
        line["images"][0] for line in held
    ]
    seeds = []
    for seed in range(6):
        run(settings(data, tmp_path / str(seed), seed=seed, **changes))
        seeds.append((tmp_path / str(seed) / "ours_validation.jsonl").read_bytes())
    assert len(set(seeds)) > 1
    assert seeds[0] == (out / "ours_validation.jsonl").read_bytes()
    if layout == "llama-factory":
        info = json.loads((out / "dataset_info.json").read_text())
        assert {name: entry["file_name"] for name, entry in info.items()} == {
            "ours": "ours.jsonl",
            "ours_validation": "ours_validation.jsonl",
        }
        assert "eval_dataset=ours_validation" in capsys.readouterr().out
    else:
        assert f"--val_dataset {out}/ours_validation.jsonl" in capsys.readouterr().out


def test_a_validation_split_needs_two_images_and_leaves_one_for_training(data, tmp_path):
    with pytest.raises(GeoClickError, match="one image only"):
        run(settings(one_row_store(tmp_path), tmp_path / "out", validation_share=0.5))
    for share, count in ((0.01, 1), (0.99, 4)):
        out = tmp_path / str(share)
        run(settings(data, out, validation_share=share))
        held = lines_of(out / "geoclick_validation.jsonl")
        assert len({line["images"][0] for line in held}) == count


def test_other_alphabets_stay_readable(tmp_path):
    run(settings(one_row_store(tmp_path, query="道路旁的储罐"), tmp_path / "out"))
    assert "道路旁的储罐" in (tmp_path / "out/geoclick.jsonl").read_text(encoding="utf-8")


def test_a_killed_export_leaves_nothing_that_looks_whole(data, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("geoclick.prompts.messages", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings(data, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    run(settings(data, tmp_path))
    assert manifest_of(tmp_path)["rows"] == 10


def test_half_a_store_and_a_taken_output_are_refused(data, tmp_path):
    rows = list(store.read(data[0]))
    store.write_shard(tmp_path / "half", 0, 2, rows)
    with pytest.raises(GeoClickError, match=r"manifest\.json"):
        run(settings((tmp_path / "half", data[1]), tmp_path / "out"))
    with pytest.raises(UsageError, match="name another --output"):
        run(settings(data, data[0]))
    with pytest.raises(GeoClickError, match="does not exist though the click store names it"):
        run(settings((data[0], tmp_path), tmp_path / "out"))


def test_an_image_outside_the_root_is_refused(tmp_path):
    with pytest.raises(GeoClickError, match="has an image outside its dataset"):
        run(settings(one_row_store(tmp_path, image="../../secret.png"), tmp_path / "out"))


@pytest.mark.parametrize(
    "flags",
    [
        ["--layout", "axolotl"],
        ["--max-clicks", "0"],
        ["--name", "../a"],
        ["--name", "a,b"],
        ["--min-pixels", "9000", "--max-pixels", "5000"],
        ["--paths", "home"],
        ["--validation-share", "1"],
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(data, tmp_path, flags, capsys):
    words = [str(data[0]), "--root", str(data[1]), "--output", str(tmp_path / "out"), "--layout", "ms-swift"]
    assert main([*words, *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command(data, tmp_path, capsys):
    words = [
        str(data[0]),
        "--root",
        str(data[1]),
        "--output",
        str(tmp_path / "out"),
        "--layout",
        "llama-factory",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("10 rows on 5 images")


@pytest.mark.parametrize(
    ("layout", "size", "limits", "expected"),
    [
        ("ms-swift", (100, 100), (3136, 12845056), (112, 112)),
        ("ms-swift", (1000, 1000), (3136, 589824), (756, 756)),
        # 1000 x 1000 to 768 x 768 by area, then to the nearest multiple of 28: 27.4 of them.
        ("llama-factory", (1000, 1000), (1024, 589824), (756, 756)),
        # 700 x 1000 to 642 x 917.8..., of which the fraction goes: 23 x 28 and 33 x 28.
        ("llama-factory", (700, 1000), (1024, 589824), (644, 924)),
        ("ms-swift", (700, 1000), (3136, 589824), (616, 896)),
        ("llama-factory", (10, 1000), (1024, 589824), (28, 1008)),
        ("ms-swift", (4, 1000), (3136, 12845056), None),
    ],
)
def test_resized_sizes(layout, size, limits, expected):
    assert resized_size(size, layout, limits) == expected


@given(st.integers(30, 3000), st.integers(30, 3000), st.sampled_from(list(PIXEL_LIMITS)))
def test_resized_sizes_are_multiples_near_the_limits(height, width, layout):
    least, most = PIXEL_LIMITS[layout]
    resized = resized_size((height, width), layout, (least, most))
    assert resized[0] % 28 == resized[1] % 28 == 0
    if layout == "ms-swift":
        assert resized[0] * resized[1] <= most
    else:
        # The second step rounds to the nearest multiple, half a token beyond at most.
        assert (resized[0] - 14) * (resized[1] - 14) <= most
