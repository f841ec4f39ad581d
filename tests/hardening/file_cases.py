"""Files that are no plain files, of formats that are not opened, or whose headers claim enormous sizes."""

import json
import os
import struct
import zlib

import numpy as np
from PIL import Image

from tests.hardening.cases import Case
from tests.hardening.inputs import HEAVY, base, replaced
from tests.hardening.store_cases import READERS, lines_of, store_with
from tests.hardening.text_cases import LEFT_OUT, SAMPLES, copied

BIG = 10**9


def png_of(width, height):
    """The bytes of a PNG whose header claims a size, with a few rows of pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", zlib.crc32(name + data) & 0xFFFFFFFF)
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def tiff_of(width, height):
    """The bytes of a TIFF whose header claims a size."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 4)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def encoded(kind, **options):
    """The bytes of a small picture in a format of Pillow's."""
    import io

    stream = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def bomb():
    """A PNG of 16,000 x 16,000 pixels in 250 kB."""
    import io

    stream = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(stream, "PNG")
    return stream.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
CONTENTS = {
    "empty": lambda: b"",
    "text": lambda: b"no image",
    "zeros": lambda: bytes(1000),
    "PNG cut": lambda: encoded("PNG")[:60],
    "JPEG cut": lambda: encoded("JPEG")[:300],
    "TIFF cut": lambda: encoded("TIFF")[:2000],
    "WebP cut": lambda: encoded("WEBP")[:20],
    "BMP cut": lambda: encoded("BMP")[:200],
    "JP2 cut": lambda: encoded("JPEG2000")[:80],
    "GIF": lambda: encoded("GIF"),
    "PPM": lambda: encoded("PPM"),
    "ICO": lambda: encoded("ICO"),
    "PCX": lambda: encoded("PCX"),
    "TGA": lambda: encoded("TGA"),
    "EPS": lambda: encoded("EPS"),
    "PDF": lambda: encoded("PDF"),
    "DDS": lambda: b"DDS \x7c\0\0\0" + b"\xff" * 200,
    "DDS whole": lambda: encoded("DDS"),
    "BLP": lambda: b"BLP2\x01\0\0\0" + b"\xff" * 200,
    "AVIF": lambda: b"\0\0\0\x1cftypavif" + b"\xff" * 200,
    "SVG": lambda: SVG,
    "GDAL VRT": lambda: b'<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>',
    "PNG of 10^9": lambda: png_of(BIG, BIG),
    "PNG of 1 x 10^9": lambda: png_of(BIG, 1),
    "PNG of 0": lambda: png_of(0, 0),
    "TIFF of 10^9": lambda: tiff_of(BIG, BIG),
    "TIFF of 10^9 x 1": lambda: tiff_of(BIG, 1),
    "PNG bomb": lambda: bomb(),
}
"""Contents of an image or mask that are refused."""

SIZES = ("PNG of 10^9", "PNG of 1 x 10^9", "PNG of 0", "TIFF of 10^9", "TIFF of 10^9 x 1", "PNG bomb")


def fifo(path):
    os.mkfifo(path)


def folder_at(path):
    path.mkdir()


def device(path):
    path.symlink_to("/dev/zero")


def nowhere(path):
    path.symlink_to("/no/such/file")


def loop(path):
    path.symlink_to(path)


def secret(path):
    path.symlink_to("/etc/passwd")


def locked(path):
    path.write_bytes(b"")
    path.chmod(0)


PLACES = {
    "a fifo": fifo,
    "a folder": folder_at,
    "/dev/zero": device,
    "a link to nothing": nowhere,
    "a link to itself": loop,
    "a link to /etc/passwd": secret,
}
"""What stands in place of a file."""

OPTIONS = {
    "predict": ("--from", "--config", "--classes", "--segmenter-checkpoint", "--adapter", "--vlm", "--clip"),
    "evaluate": ("--config", "--clicks", "--adapter", "--root", "--compare"),
    "synth": ("--config", "--segmenter-checkpoint", "--root"),
    "quality": ("--config", "--tokenizer", "--root"),
    "export": ("--config", "--root"),
    "train sft": ("--config", "--clicks", "--root", "--vlm", "--chats"),
    "train grpo": ("--config", "--adapter", "--root", "--vlm"),
    "merge": ("--config", "--vlm"),
    "card": ("--config", "--evaluation", "--clicks"),
    "compare": ("--config",),
    "ablate": ("--config", "--root", "--clip", "--upsample"),
    "app": ("--config", "--images", "--adapter", "--vlm", "--segmenter-checkpoint"),
    "scenes": ("--config",),
    "demo": ("--config",),
    "prepare": ("--config", "--root"),
    "configs": ("--config",),
}
"""Options that name a file or folder."""

NOT_READ = ("card --clicks",)

FOLDERS = ("app --images",)
"""Options that name a folder, which may be empty."""


def cases():
    """The cases of both kinds."""
    return [*option_files(), *images(), *sample_files(), *store_files(), *records(), *configs()]


def option_files():
    """A file of an option."""
    for command, flags in OPTIONS.items():
        for flag in flags:
            for name, make in PLACES.items():

                def words(inputs, folder, command=command, flag=flag, make=make):
                    make(folder / "bad")
                    own = base(command, inputs, folder)
                    extra = {"--segmenter-checkpoint": ["--segmenter", "sam_vit_b"]}.get(flag, [])
                    if flag == "--classes":
                        own = replaced(own, "--text")[:-1]
                    return [*replaced(own, flag, folder / "bad"), *extra]

                # An empty folder is no wrong root by itself, but holds nothing to read.
                given = f"{command} {flag}"
                refuse = given not in NOT_READ and not (given in FOLDERS and name == "a folder")
                heavy = command in HEAVY
                yield Case("files", command, f"{flag}: {name}", words, refuse=refuse, heavy=heavy)


def kind_of(name):
    return "sizes" if name in SIZES else "files"


def images():
    """An image of predict."""
    for name, content in CONTENTS.items():

        def words(inputs, folder, content=content):
            (folder / "a.png").write_bytes(content())
            return [folder / "a.png", "--text", "tank", "--output", folder / "out"]

        yield Case(kind_of(name), "predict", f"image: {name}", words)

        def mapped(inputs, folder, content=content):
            (folder / "a.tif").write_bytes(content())
            return [folder / "a.tif", "--classes", "tank; road", "--output", folder / "out"]

        yield Case(kind_of(name), "predict", f"image of a map: {name}", mapped)
    for name, make in PLACES.items():

        def placed(inputs, folder, make=make):
            make(folder / "a.png")
            return [folder / "a.png", "--text", "tank", "--output", folder / "out"]

        yield Case("files", "predict", f"image: {name}", placed)


def sample_files():
    """An image or a mask of a dataset, one of two."""
    for command, line in SAMPLES.items():
        for part in ("images", "masks"):
            for name in (*CONTENTS, *PLACES):

                def words(inputs, folder, name=name, part=part, line=line):
                    root = folder / "data"
                    for kind in ("images", "masks"):
                        (root / "train" / kind).mkdir(parents=True)
                        picture = np.zeros((64, 64), np.uint8)
                        picture[20:50, 20:50] = 255
                        for stem in "ab":
                            if stem == "a" or kind != part:
                                Image.fromarray(picture).save(root / "train" / kind / f"{stem}.png")
                    path = root / "train" / part / "b.png"
                    if name in CONTENTS:
                        path.write_bytes(CONTENTS[name]())
                    else:
                        PLACES[name](path)
                    return line(root, folder)

                yield Case(kind_of(name), command, f"{part}: {name}", words, refuse=False, says=LEFT_OUT)
        for name, make in PLACES.items():

            def listed(inputs, folder, make=make, line=line):
                (folder / "data" / "train").mkdir(parents=True)
                make(folder / "data" / "train" / "samples.jsonl")
                return line(folder / "data", folder)

            yield Case("files", command, f"samples.jsonl: {name}", listed)


def store_files():
    """A shard or the manifest of a click store."""
    for command in READERS:
        for name, make in PLACES.items():
            for pattern in ("clicks-*.parquet", "manifest.json"):

                def words(inputs, folder, make=make, pattern=pattern, command=command):
                    store = store_with(inputs, folder)
                    path = next(store.glob(pattern))
                    path.unlink()
                    make(path)
                    return lines_of(command, inputs, folder, store)

                optional = pattern == "manifest.json" and command in ("train sft", "evaluate")
                yield Case("files", command, f"{pattern}: {name}", words, refuse=not optional)


RECORDS = {
    "mask of 10^9": {"size": [256, 256], "mask": {"size": [BIG, BIG], "counts": "0"}},
    "size of 10^9": {"size": [BIG, BIG], "mask": {"size": [BIG, BIG], "counts": [BIG * BIG]}},
    "size of 10^9 without target": {"size": [BIG, BIG], "mask": None, "task": "no_target"},
    "size of 2^30 x 1": {"size": [1, 1 << 30], "mask": {"size": [1, 1 << 30], "counts": [1 << 30]}},
    "runs that wrap around": {"mask": {"size": [256, 256], "counts": [2**63 - 1, 2**63 - 1, 65_538]}},
    "negative runs": {"mask": {"size": [256, 256], "counts": [-1, 65_537]}},
    "a million runs": {"mask": {"size": [256, 256], "counts": [0] * 1_000_000}},
    "counts of ten million letters": {"mask": {"size": [256, 256], "counts": "0" * 10_000_000}},
    "a mask path of a million letters": {"mask": "a" * 1_000_000},
    "size NaN": {"size": [float("nan"), 256]},
    "size true": {"size": [True, 256]},
    "size of 5,000 digits": {"size": [10**4000, 256]},
    "100,000 instances": {"instances": [{"size": [BIG, BIG], "counts": "0"}] * 100_000},
}
"""Values in a line of samples.jsonl."""

TEXTS = {
    "100,000 brackets": "[" * 100_000,
    "an integer of 10,000 digits": '{"sample_id": ' + "9" * 10_000 + "}",
    "NaN": "NaN",
    "a line of 20 MB": '{"sample_id": "' + "a" * 20_000_000 + '"}',
}


def records():
    """A line of samples.jsonl."""
    for command, line in SAMPLES.items():
        for name, values in RECORDS.items():

            def words(inputs, folder, values=values, line=line):
                return line(copied(inputs, folder, lambda lines: lines[0].update(values)), folder)

            yield Case("sizes", command, f"samples.jsonl: {name}", words, refuse=False, says=LEFT_OUT)
        for name, text in TEXTS.items():

            def added(inputs, folder, text=text, line=line):
                root = copied(inputs, folder, lambda lines: None)
                path = root / "train" / "samples.jsonl"
                path.write_text(path.read_text() + text + "\n")
                return line(root, folder)

            yield Case("sizes", command, f"samples.jsonl: {name}", added, refuse=False, says=LEFT_OUT)
    for name, make in {
        "an unending line": lambda path: path.write_text("a" * 50_000_000),
        "a million lines": lambda path: path.write_text("no.png\n" * 1_000_000),
        "nested": lambda path: path.write_text("[" * 1_000_000),
    }.items():

        def listed(inputs, folder, make=make):
            make(folder / "list.jsonl")
            return ["--from", folder / "list.jsonl", "--text", "a", "--output", folder / "out"]

        yield Case("sizes", "predict", f"--from: {name}", listed)
    many = "; ".join(f"class {i}" for i in range(20_000))

    def classes(inputs, folder):
        (folder / "classes.txt").write_text(many.replace("; ", "\n"))
        return [inputs.image, "--classes", folder / "classes.txt", "--output", folder / "out"]

    yield Case("sizes", "predict", "20,000 classes", classes)


def doubled():
    rows = ["a0: &a0 [1, 1]\n"]
    return "".join(rows + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)])


YAML = {
    "aliases": doubled,
    "merge keys": lambda: "a: &a {b: 1}\nc:\n  <<: *a\n",
    "2 MB": lambda: "a: " + "b" * 2_000_000,
    "nested": lambda: "[" * 100_000,
    "deep mapping": lambda: "".join(" " * i + "a:\n" for i in range(1500)),
    "a tag of Python": lambda: "a: !!python/object/apply:os.system ['id']\n",
    "two documents": lambda: "seed: 1\n---\nseed: 2\n",
    "a key twice": lambda: "seed: 1\nseed: 2\n",
    "a number as key": lambda: "1: 2\n",
    "a list": lambda: "- a\n",
    "JSON": lambda: json.dumps({"no_such_option": 1}),
}
"""Config files that are refused."""


def configs():
    """A config file of each command."""
    for command in OPTIONS:
        for name, text in YAML.items():

            def words(inputs, folder, command=command, text=text):
                (folder / "bad.yaml").write_text(text())
                return replaced(base(command, inputs, folder), "--config", folder / "bad.yaml")

            heavy = command in HEAVY
            yield Case("sizes", command, f"config: {name}", words, heavy=heavy)
