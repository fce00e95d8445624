#!/usr/bin/env python3
"""Makes the files beside it, with PyPI's torch 2.15.0 and numpy (Python 3.11): `python make.py`.

    *.bin, *.pth    as torch.save writes them
    expected.json   "tensors": of each file that is read, name -> [encoding, shape, bytes in hex], by torch itself;
                    "refused": of each file that is not, words of the error
"""

import collections
import json
import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
ENCODINGS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.complex64: "C64", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
}

expected = {"torch": torch.__version__, "tensors": {}, "refused": {}}


def raw(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def good(name, what, state_dict=None, **how):
    torch.save(what, HERE / name, **how)
    loaded = torch.load(HERE / name, weights_only=True)
    state_dict = loaded if state_dict is None else loaded[state_dict]
    expected["tensors"][name] = {key: [ENCODINGS[t.dtype], list(t.shape), raw(t).hex()] for key, t in state_dict.items()
                                 if isinstance(t, torch.Tensor)}


def refused(name, words, what, **how):
    torch.save(what, HERE / name, **how)
    expected["refused"][name] = words


def main():
    torch.manual_seed(1)
    good("dtypes.bin", {ENCODINGS[dtype].lower(): torch.tensor([0, 1, 1, 0, 1, 1]).to(torch.float32).mul(2).to(dtype).reshape(2, 3)
                        for dtype in ENCODINGS})
    base = torch.randn(4, 6)
    tied = torch.nn.Parameter(torch.randn(3, 2))
    good("views.bin", collections.OrderedDict(
        whole=base, rows=base[1:3], one_row=base[2], one=base[3, 5], column=base[1:2, 3:5], empty=base[:0],
        scalar=torch.tensor(7), embed=tied, head=tied, expanded_of_one=torch.ones(1, 3).expand(1, 3)))
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    good("module.bin", module.state_dict())
    good("checkpoint.pth", {"state_dict": module.state_dict(), "epoch": 3, "lr": 0.1, "name": "a run", "raw": b"\xff\x00",
                            "size": torch.Size([2, 3]), "device": torch.device("cpu"), "dtype": torch.bfloat16,
                            "seed": 2**70, "betas": (0.9, 0.95), "none": None, "flag": True}, "state_dict")
    good("many.bin", {f"layers.{i}.weight": torch.full((2,), i, dtype=torch.bfloat16) for i in range(40)})
    torch.serialization.set_crc32_options(False)
    good("no_crc.bin", {"w": torch.arange(5)})
    torch.serialization.set_crc32_options(True)

    refused("transposed.bin", ["w: ", "does not lie in one piece (stride [1, 3])"], {"w": torch.randn(2, 3).t()})
    refused("conjugated.bin", ["w: ", "conjugated or negated"], {"w": torch.randn(2, dtype=torch.complex64).conj()})
    refused("numpy.bin", ["GLOBAL numpy", "scalar is refused"], {"w": torch.ones(2), "loss": np.float32(0.5)})
    refused("protocol4.bin", ["byte 0: PROTO is refused: protocol 4"], {"w": torch.ones(2)}, pickle_protocol=4)
    refused("legacy.bin", ["before version 1.6"], {"w": torch.ones(2)}, _use_new_zipfile_serialization=False)
    refused("whole_module.bin", ["GLOBAL torch.nn.modules.linear.Linear is refused"], torch.nn.Linear(2, 2))
    refused("sparse.bin", ["GLOBAL torch._utils._rebuild_sparse_tensor is refused"], {"w": torch.eye(2).to_sparse()})
    refused("list.bin", ["is not a dict of names and tensors"], [torch.ones(2)])
    with_attribute = torch.ones(2)
    with_attribute.scale = 3
    refused("attribute.bin", ["_rebuild_from_type_v2 is refused"], {"w": with_attribute})
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(HERE / "script.pt"))
    expected["refused"]["script.pt"] = ["a TorchScript archive"]
    (HERE / "expected.json").write_text(json.dumps(expected, separators=(",", ":")).replace("],", "],\n") + "\n")


if __name__ == "__main__":
    main()
