"""PyTorch files: the same model as in safetensors, read in place, and what is refused."""

import json
import pathlib
import pickle
import shutil
import struct
import zipfile

import cli_models
import torch_files
from cli_models import Case, read_safetensors, write_model
from torch_files import call, dictionary, items, number, ordered_dict, storage, symbol, tensor, text, whole


def to_torch(model, to, shards=1, **how):
    """The model of a safetensors folder with its weights in .bin files."""
    shutil.copytree(model, to, ignore=shutil.ignore_patterns("*.safetensors*"))
    tensors = read_safetensors(model / "model.safetensors")
    if shards == 1:
        torch_files.write_torch(to / "pytorch_model.bin", tensors, **how)
        return to
    names, weight_map = list(tensors), {}
    for shard in range(shards):
        file = f"pytorch_model-{shard + 1:05d}-of-{shards:05d}.bin"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        torch_files.write_torch(to / file, {name: tensors[name] for name in part}, **how)
        weight_map.update({name: file for name in part})
    (to / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return to


def data_offsets(path):
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        return [entry.header_offset + 30 + sum(struct.unpack("<HH", data[entry.header_offset + 26 : entry.header_offset + 30]))
                for entry in file.infolist()]


def state_dict(**tensors):
    return whole(dictionary([(text(name), ops) for name, ops in tensors.items()], ordered_dict()))


class TheSameModel(Case):
    def setUp(self):
        super().setUp()
        self.model = write_model(self.dir / "model")
        self.root = self.run_ok("digest", self.model, "--json").json()["root"]

    def assert_same(self, other, **how):
        self.assertEqual(self.run_ok("digest", other, "--json").json()["root"], self.root)
        for pair in ((self.model, other), (other, self.model)):
            self.assertEqual(self.run_ok("verify", *pair, "--json").json()["verdict"], "IDENTICAL")

    def test_one_file(self):
        other = to_torch(self.model, self.dir / "torch")
        self.assert_same(other)
        told, expected = (self.run_ok("inspect", ref, "--json").json() for ref in (other, self.model))
        self.assertEqual(told["kind"], "pytorch")
        for field in ("architecture", "parameters", "parameters_from_config", "bytes", "tied", "problems"):
            self.assertEqual(told[field], expected[field], field)
        self.assertIn("pytorch_model.bin", self.run_ok("inspect", other).out)

    def test_shards(self):
        self.assert_same(to_torch(self.model, self.dir / "torch", shards=3))

    def test_under_state_dict_without_checksums_in_a_folder_of_another_name(self):
        other = to_torch(self.model, self.dir / "torch", wrap="state_dict", checksums=False, folder="a model")
        self.assert_same(other)
        messages = [problem["message"] for problem in self.run_ok("inspect", other, "--json").json()["problems"]]
        self.assertTrue(any('under "state_dict"' in message for message in messages), messages)
        self.assertTrue(any("have no checksum" in message for message in messages), messages)

    def test_tied_weights(self):
        tied = write_model(self.dir / "tied", config={"tie_word_embeddings": True}, drop=("lm_head.weight",))
        other = to_torch(tied, self.dir / "torch", shared={"lm_head.weight": "model.embed_tokens.weight"})
        self.assertEqual(self.run_ok("verify", tied, other, "--json").json()["verdict"], "IDENTICAL")

    def test_it_goes_where_safetensors_go(self):
        other = to_torch(self.model, self.dir / "torch", shards=2)
        self.run_ok("convert", other, "-o", self.dir / "out")
        self.assertEqual(read_safetensors(self.dir / "out" / "model.safetensors"), read_safetensors(self.model / "model.safetensors"))
        tune = to_torch(write_model(self.dir / "tune", update_seed=5), self.dir / "torch_tune", plain=True, folder="x")
        self.assertTrue(any(at % 2 for at in data_offsets(tune / "pytorch_model.bin")), "nothing is unaligned")
        for name, base, one in (("a", self.model, self.dir / "tune"), ("b", other, tune)):
            (self.dir / f"{name}.yml").write_text(cli_models.recipe_text(
                "task_arithmetic", base, [(one, {"weight": 0.5})]))
        weights = [self.run_ok("digest", self.dir / f"{name}.yml", "--json").json()["weights_root"] for name in "ab"]
        self.assertEqual(weights[0], weights[1])

    def test_safetensors_come_first(self):
        torch_files.write_torch(self.model / "pytorch_model.bin", {"w": ("F32", [1], bytes(4))})
        result = self.run_ok("inspect", self.model, "--json").json()
        self.assertEqual(result["kind"], "safetensors")
        self.assertIn("most likely the same weights a second time", result["problems"][0]["message"])


class WhatIsRefused(Case):
    def assert_refused(self, status, words, data, name="x.bin"):
        path = self.dir / name
        path.write_bytes(data)
        for command in ("inspect", "digest"):
            self.run_fails(status, [name, *words], command, path)

    def torch_file(self, data_pkl, payload=bytes(24), **more):
        return torch_files.torch_archive({"data.pkl": data_pkl, "data/0": payload, "version": b"3\n", **more})

    def test_code_is_named_and_not_run(self):
        marker = self.dir / "marker"

        class Evil:
            def __reduce__(self):
                return pathlib.Path.touch, (marker,)

        for protocol in (2, 3):
            evil = pickle.dumps({"w": Evil()}, protocol=protocol)
            self.assert_refused(2, ["data.pkl", "byte ", "GLOBAL ", "is refused", "nothing of it was executed"], self.torch_file(evil))
        shell = state_dict(w=call(symbol("posix", "system"), text(f"touch {marker}")))
        self.assert_refused(2, ["archive/data.pkl", "byte 36: GLOBAL posix.system is refused"], self.torch_file(shell))
        behind = whole(pickle.NONE) + shell
        self.assert_refused(3, ["bytes follow the end of the pickle"], self.torch_file(behind))
        newer = pickle.dumps({"w": Evil()}, protocol=4)
        self.assert_refused(2, ["PROTO is refused: protocol 4"], self.torch_file(newer))
        self.assertFalse(marker.exists())

    def test_a_storage_that_is_too_short_or_absent(self):
        self.assert_refused(3, ["byte ", "passes the end of its storage"],
                            self.torch_file(state_dict(w=tensor(storage("FloatStorage", "0", 6), 2, [5]))))
        self.assert_refused(3, ["said to have 7 elements"],
                            self.torch_file(state_dict(w=tensor(storage("FloatStorage", "0", 7), 0, [7]))))
        self.assert_refused(3, ["is not in the archive"],
                            self.torch_file(state_dict(w=tensor(storage("FloatStorage", "../../etc/passwd", 6), 0, [6]))))

    def test_a_transposed_tensor_says_what_to_do(self):
        self.assert_refused(2, ["byte ", "does not lie in one piece", ".contiguous()"],
                            self.torch_file(state_dict(w=tensor(storage("FloatStorage", "0", 6), 0, [3, 2], [1, 3]))))

    def test_what_is_no_state_dict(self):
        self.assert_refused(2, ["no state dict", "param_groups", "model.state_dict()"],
                            self.torch_file(whole(dictionary([(text("param_groups"), items(number(1)))]))))

    def test_archives(self):
        members = {"data.pkl": state_dict(w=tensor(storage("FloatStorage", "0", 6), 0, [6])), "data/0": bytes(24)}
        good = torch_files.archive(members)
        path = self.dir / "good.bin"
        path.write_bytes(good)
        self.run_ok("digest", path)
        self.assert_refused(2, ["is compressed (deflate)"], torch_files.archive(members, method=zipfile.ZIP_DEFLATED))
        self.assert_refused(3, ["truncated"], good[:-5])
        self.assert_refused(3, ["truncated", "appended"], good + b"more")
        self.assert_refused(3, ["something was put before"], b"PK\x03\x04 garbage" + good)
        self.assert_refused(2, ["big-endian"], torch_files.archive(dict(members, byteorder=b"big")))
        self.assert_refused(2, ["a TorchScript archive"], torch_files.archive(dict(members, **{"constants.pkl": b"x"})))
        damaged = bytearray(good)
        damaged[good.index(b"Storage")] ^= 1
        self.assert_refused(3, ["data.pkl", "CRC-32"], bytes(damaged))

    def test_other_formats(self):
        self.assert_refused(2, ["before version 1.6"], b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
        self.assert_refused(2, ["a 7z archive"], b"7z\xbc\xaf\x27\x1c" + bytes(100))
        self.assert_refused(2, ["a RAR archive"], b"Rar!\x1a\x07\x01\x00" + bytes(100))
        self.assert_refused(2, ["a tar archive"], bytes(257) + b"ustar\x0000" + bytes(300))
        self.assert_refused(3, ["not a PyTorch file"], b"\0" * 100)
        self.assert_refused(3, ["git lfs"], b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")

    def test_a_shard_that_is_not_there(self):
        folder = to_torch(write_model(self.dir / "model"), self.dir / "torch", shards=3)
        (folder / "pytorch_model-00002-of-00003.bin").unlink()
        self.run_fails(3, ["pytorch_model-00002-of-00003.bin", "fetch"], "inspect", folder)


if __name__ == "__main__":
    cli_models.main()
