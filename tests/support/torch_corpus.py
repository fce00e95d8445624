#!/usr/bin/env python3
"""Makes the seeds in tests/corpus/zip_archive, pickle and torch_file (standard library only, deterministic): right files, and one
for each kind of malformed one. src/formats/{zip_archive,pickle,torch_file}_test.cc have the exact error of each attack."""

import pathlib
import pickle
import struct
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))
import torch_files as t  # noqa: E402

CORPUS = HERE.parents[1] / "corpus"


def write(corpus, seeds):
    folder = CORPUS / corpus
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


def state(**tensors):
    return t.dictionary([(t.text(name), ops) for name, ops in tensors.items()], t.ordered_dict())


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def main():
    plain = t.tensor(t.storage("FloatStorage", "0", 8), 0, [2, 4])
    half = t.tensor(t.storage("HalfStorage", "1", 32), 4, [3, 2])
    untyped = t.call(t.symbol("torch._utils", "_rebuild_tensor_v3"), t.storage("UntypedStorage", "2", 6), t.number(1),
                     t.numbers([2, 2]), t.numbers([2, 1]), pickle.NEWFALSE, t.ordered_dict(), t.symbol("torch", "float8_e4m3fn"))
    parameter = t.call(t.symbol("torch._utils", "_rebuild_parameter"), plain, pickle.NEWTRUE, t.ordered_dict())
    metadata = t.dictionary([(t.text("_metadata"), t.dictionary([(t.text(""), pickle.EMPTY_DICT)], t.ordered_dict()))])
    evil = t.call(t.symbol("posix", "system"), t.text("true"))
    memo = pickle.BINPUT + b"\0"
    pickles = {
        "plain": t.whole(state(w=plain)),
        "all": t.whole(state(a=plain, b=half, c=untyped, d=parameter) + metadata + pickle.BUILD),
        "tied": t.whole(state(a=plain, b=plain)),
        "nested": t.whole(t.dictionary([(t.text("epoch"), t.number(70000)), (t.text("state_dict"), state(w=plain))])),
        "scalars": t.whole(t.items(*map(t.number, (0, 300, -1, 2**40, 2**70)), pickle.NONE, pickle.NEWTRUE,
                                   pickle.BINFLOAT + bytes(8), pickle.EMPTY_SET, b"U\x02\xff\xfe")),
        "lists": t.whole(b"]" + memo + b"K\x01a(K\x02K\x03e"),
        "size": t.whole(t.call(t.symbol("torch", "Size"), t.numbers([1, 2])) + b"0"),
        "new_object": t.whole(t.symbol("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.NEWOBJ),
        "cycle": t.whole(b"}" + memo + t.text("model") + b"h\0s" + t.text("w") + plain + b"s"),
        "doubling": t.whole(b"]" + (memo + b"h\0\x86") * 200),
        "deep": t.whole(b"N" + b"\x85" * 2000),
        "transposed": t.whole(state(w=t.tensor(t.storage("FloatStorage", "0", 8), 0, [4, 2], [1, 4]))),
        "past_storage": t.whole(state(w=t.tensor(t.storage("FloatStorage", "0", 8), 1, [8]))),
        "overflow": t.whole(state(w=t.tensor(t.storage("FloatStorage", "0", 8), 0, [2**62, 0, 2**62], [2**62, 1, 2**62]))),
        "no_storage": t.whole(state(w=t.tensor(t.storage("FloatStorage", "../0", 8), 0, [8]))),
        "two_types": t.whole(state(a=plain, b=t.tensor(t.storage("HalfStorage", "0", 8), 0, [8]))),
        "evil": t.whole(state(w=evil)),
        "stack_global": t.whole(t.text("os") + t.text("system") + b"\x93"),
        "inst": t.whole(b"(ios\nsystem\n"),
        "extension": t.whole(b"\x82\x01"),
        "build_of_class": t.whole(t.symbol("torch", "Size") + b"}b"),
        "protocol_4": t.whole(b"\x95" + bytes(8) + b"N", 4),
        "stacked": t.whole(b"N") + t.whole(evil),
        "inside": t.whole(b"N" + t.whole(b"N") + b"\x86"),
        "memo_far": t.whole(b"Nr" + struct.pack("<I", 2**31)),
        "never_put": t.whole(b"h\x07"),
    }
    write("pickle", pickles)
    write("torch_file", pickles)

    members = {"data.pkl": pickles["all"], "byteorder": b"little", "data/0": bytes(32), "data/1": bytes(64), "data/2": bytes(6), "version": b"3\n"}
    torch = t.torch_archive(members, checksums=False)
    few = {"data.pkl": pickles["plain"], "data/0": bytes(32)}
    plain_zip = t.archive(few)
    directory = plain_zip.index(b"PK\x01\x02")
    write("zip_archive", {
        "torch": torch,
        "torch_checksums": t.torch_archive(members),
        "plain": plain_zip,
        "empty": b"PK\x05\x06" + bytes(18),
        "compressed": t.archive(few, method=zipfile.ZIP_DEFLATED),
        "script": t.archive({"data.pkl": b"x", "constants.pkl": b"x", "code/a.py": b"x"}),
        "two_folders": t.archive({"data.pkl": b"x", "../b/data.pkl": b"x"}),
        "big_endian": t.torch_archive(dict(few, byteorder=b"big")),
        "leading": b"MZ" + plain_zip,
        "trailing": plain_zip + b"x",
        "twice": plain_zip + plain_zip,
        "cut": torch[:-30],
        "names_differ": flipped(plain_zip, 33),
        "sizes_differ": flipped(plain_zip, 22),
        "flags_differ": flipped(plain_zip, 6),
        "encrypted": flipped(flipped(plain_zip, 6), directory + 8),
        "offset_differs": flipped(plain_zip, directory + 42),
        "descriptor_differs": flipped(torch, torch.index(b"PK\x07\x08") + 8),
        "disks": flipped(plain_zip, len(plain_zip) - 18),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "legacy": b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
    })


if __name__ == "__main__":
    main()
