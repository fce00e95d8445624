"""inspect: the figures that people look up, and --check on downloads that went wrong in each way."""

import hashlib
import json
import math
import os
import pathlib
import shutil
import subprocess

import cli_models
import torch_files
from cli_models import CONFIG, FFN, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCAB, Case, read_safetensors, write_gguf, write_model
from cli_models import recipe_text, write_safetensors

SOURCE = pathlib.Path(__file__).resolve().parent.parent
COMMIT = "0123abcd" * 5
OTHER = "89efcdab" * 5


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def to_hub_cache(model, hub, commit=COMMIT, ref="main"):
    """A folder as huggingface_hub would have it in its cache: weights by SHA-256, small files by git's SHA-1."""
    repository = hub / "models--org--name"
    snapshot, blobs = repository / "snapshots" / commit, repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir(exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    for file in sorted(model.iterdir()):
        data = file.read_bytes()
        name = hashlib.sha256(data).hexdigest() if file.name.endswith((".safetensors", ".bin")) else git_sha1(data)
        (blobs / name).write_bytes(data)
        (snapshot / file.name).symlink_to(pathlib.Path("../../blobs") / name)
    return snapshot


def flip(path, at=-5):
    data = bytearray(pathlib.Path(path).read_bytes())
    data[at] ^= 0x10
    pathlib.Path(path).write_bytes(data)


class Figures(Case):
    def test_what_people_look_up(self):
        model = write_model(self.dir / "model", config={"max_position_embeddings": 4096})
        tokens = {"<unk>": 0, "a": 1, "b": 38}
        (model / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": tokens, "merges": []},
                                                          "added_tokens": [{"id": 39, "content": "<s>"}]}))
        (model / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
        result = self.run_ok("inspect", model, "--json").json()
        head = HIDDEN // HEADS
        for key, value in {"layers": LAYERS, "hidden_size": HIDDEN, "ffn_size": FFN, "heads": HEADS, "kv_heads": KV_HEADS,
                           "head_dim": head, "vocab_size": VOCAB, "context": 4096, "sliding_window": None, "experts": None,
                           "kv_bytes_per_token": LAYERS * KV_HEADS * head * 2 * 2,
                           "tokenizer": {"file": "tokenizer.json", "kind": "BPE", "size": 40},
                           "chat_template": "tokenizer_config.json"}.items():
            self.assertEqual(result[key], value, key)
        parts = {name: part["parameters"] for name, part in result["parts"].items()}
        self.assertEqual(parts, {"embedding": VOCAB * HIDDEN, "attention": LAYERS * 2 * HIDDEN * (HIDDEN + KV_HEADS * head),
                                 "mlp": LAYERS * 3 * HIDDEN * FFN, "norms": (2 * LAYERS + 1) * HIDDEN, "head": VOCAB * HIDDEN})
        self.assertEqual(sum(parts.values()), result["parameters"])
        text = self.run_ok("inspect", model).out
        for words in ("4 query, 2 key/value, of 8", "4,096 positions", "BPE, 40 tokens (tokenizer.json)", "in tokenizer_config.json",
                      "128 B a token in f16, 524 kB for the whole context", "attention", "embedding"):
            self.assertIn(words, text)

    def test_gguf(self):
        result = self.run_ok("inspect", write_gguf(self.dir / "m.gguf"), "--json").json()
        self.assertEqual(result["tokenizer"], {"file": "m.gguf", "kind": "SentencePiece", "size": VOCAB})
        self.assertEqual(result["chat_template"], None)
        self.assertEqual(result["layers"], LAYERS)

    def test_a_unigram_tokenizer_and_a_template_in_a_file(self):
        model = write_model(self.dir / "model")
        (model / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 4, "content": "<x>"}], "model": {
            "type": "Unigram", "vocab": [["<unk>", 0], ["a", -1.5], ["b", -2]]}}))
        (model / "chat_template.jinja").write_text("{{ messages }}")
        result = self.run_ok("inspect", model, "--json").json()
        self.assertEqual(result["tokenizer"], {"file": "tokenizer.json", "kind": "Unigram", "size": 5})
        self.assertEqual(result["chat_template"], "chat_template.jinja")

    def test_names_alone_tell_the_parts_of_unknown_architectures(self):
        tensors = {f"transformer.h.0.{name}": ("F32", [2], b"\0" * 8) for name in
                   ("attn.c_attn.weight", "mlp.experts.3.w1.weight", "mlp.gate.weight", "ln_1.weight", "something")}
        write_safetensors(self.dir / "x.safetensors", tensors)
        result = self.run_ok("inspect", self.dir / "x.safetensors", "--json").json()
        self.assertEqual({name: part["tensors"] for name, part in result["parts"].items()},
                         {"attention": 1, "experts": 2, "norms": 1, "other": 1})
        self.assertIsNone(result["kv_bytes_per_token"])
        self.assertIsNone(result["tokenizer"])
        self.assertEqual((result["parts_from"], result["layers_from"], result["layers"]), ("names", "names", 1))
        text = self.run_ok("inspect", self.dir / "x.safetensors").out
        self.assertIn("the parts are inferred from the tensors' names", text)
        self.assertIn("1  (inferred from the tensors' names)", text)

    def golden(self, name, **config):
        """A folder of zeros with the config and tensors of a case of tests/goldens/architectures."""
        golden = json.loads((SOURCE / "tests/goldens/architectures/architectures.json").read_text())["cases"][name]
        folder = self.dir / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(dict(golden["config"], **config)))
        write_safetensors(folder / "model.safetensors", {
            tensor: ("F16", shape, bytes(2 * math.prod(shape))) for tensor, shape in golden["tensors"].items()})
        return folder

    def test_an_architecture_of_which_only_the_name_is_not_known(self):
        folder = self.golden("mixtral", architectures=["NewForCausalLM"], model_type="new")
        result = self.run_ok("inspect", folder, "--json").json()
        self.assertEqual((result["parts_from"], result["layers_from"], result["layers"]), ("names", "config", 2))
        self.assertIsNone(result["parameters_from_config"])
        self.assertGreater(result["parts"]["experts"]["parameters"], result["parts"]["attention"]["parameters"])
        self.assertIn("NewForCausalLM  (not known to sluice: the parts are inferred", self.run_ok("inspect", folder).out)

    def test_experts(self):
        folder = self.golden("mixtral")
        result = self.run_ok("inspect", folder, "--json").json()
        self.assertEqual((result["parts_from"], result["layers_from"]), ("architecture", "config"))
        self.assertEqual(result["problems"], [])
        self.assertEqual(result["parameters_from_config"], result["parameters"])
        for key, value in {"layers": 2, "experts": 3, "experts_per_token": 2, "expert_ffn_size": 36, "heads": 6, "kv_heads": 2, "head_dim": 4,
                           "context": 131072, "kv_bytes_per_token": 2 * 2 * 4 * 2 * 2}.items():
            self.assertEqual(result[key], value, key)
        self.assertIn("3 of feed-forward 36, 2 of them for a token", self.run_ok("inspect", folder).out)
        parts = {name: part["parameters"] for name, part in result["parts"].items()}
        self.assertEqual(parts, {"embedding": 40 * 24, "attention": 2 * (2 * 24 * 24 + 2 * 8 * 24),
                                 "experts": 2 * (3 * 24 + 3 * 3 * 36 * 24), "norms": 5 * 24, "head": 40 * 24})
        write_safetensors(self.dir / "ids.safetensors", {"input_ids": ("I64", [1, 2], bytes(16))})
        self.run_fails(2, ["MixtralForCausalLM: sluice cannot run this architecture yet: it would need a router and its experts"],
                       "logits", folder, "--ids", self.dir / "ids.safetensors", "-o", self.dir / "out.safetensors")

    def test_no_keys_and_values(self):
        for name, part in (("mamba", "mixer"), ("bert_masked", "attention")):
            folder = self.golden(name)
            result = self.run_ok("inspect", folder, "--json").json()
            self.assertEqual(result["kv_bytes_per_token"], 0)
            self.assertGreater(result["parts"][part]["parameters"], 0)
            self.assertEqual([p["severity"] for p in result["problems"]], ["note"])
            self.assertEqual(len(result["tied"]), 1)
            self.assertIn("it keeps no keys and values", self.run_ok("inspect", folder).out)

    def test_a_tokenizer_that_does_not_belong_and_one_that_is_no_json(self):
        model = write_model(self.dir / "model")
        (model / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": VOCAB}, "merges": []}}))
        messages = [p["message"] for p in self.run_ok("inspect", model, "--json").json()["problems"]]
        self.assertTrue(any(f"ids up to {VOCAB}, the model's vocabulary ends at {VOCAB}" in m for m in messages), messages)
        (model / "tokenizer.json").write_text('{"model": ')
        messages = [p["message"] for p in self.run_ok("inspect", model, "--json").json()["problems"]]
        self.assertTrue(any("tokenizer.json: line 1" in m for m in messages), messages)

    def test_tensors_by_glob(self):
        model = write_model(self.dir / "model")

        def names(*arguments):
            return [t["name"] for t in self.run_ok("inspect", *arguments, "--json").json()["tensors"]]

        self.assertEqual(len(names(model, "--tensors")), len(cli_models.shapes()))
        self.assertEqual(len(names("--tensors", model)), len(cli_models.shapes()))  # as the flag could be written
        self.assertEqual(names(model, "--tensors", "*.q_proj.*"),
                         [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(LAYERS)])
        self.assertEqual(names(model, "--tensors", "lm_head*", "model.norm.????ht"), ["lm_head.weight", "model.norm.weight"])
        self.assertEqual(names(model, "--tensors", "q_proj"), [])  # the whole name has to match
        self.assertIn("no tensor matches q_proj", self.run_ok("inspect", model, "--tensors", "q_proj").out)
        self.run_fails(2, ["ref is required"], "inspect")
        self.run_fails(2, ["before --tensors"], "inspect", "--tensors", "*.q_proj.*", model)
        self.assertNotIn("tensors", self.run_ok("inspect", model, "--json").json())


class Hub(Case):
    def test_by_name_and_revision(self):
        model = write_model(self.dir / "plain")
        snapshot = to_hub_cache(model, self.dir / "hub")
        environment = dict(os.environ, HF_HUB_CACHE=str(self.dir / "hub"))
        for ref in ("org/name", "org/name@main", "org/name@0123abcd", snapshot):
            done = subprocess.run([cli_models.SLUICE, "inspect", str(ref), "--json"], env=environment, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["architecture"], "LlamaForCausalLM")
        done = subprocess.run([cli_models.SLUICE, "inspect", "org/none"], env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 3)
        self.assertIn("hf download org/none", done.stderr)
        done = subprocess.run([cli_models.SLUICE, "inspect", "org/name", "--check", "--json"], env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual({f["state"] for f in json.loads(done.stdout)["check"]["files"]}, {"whole"})


class Check(Case):
    def check(self, path, status):
        result = self.run_ok("inspect", path, "--check", "--json", status=status).json()
        self.assertEqual(result["schema"], "sluice/inspect/v1")
        text = self.run_ok("inspect", path, "--check", status=status).out
        for name in result["check"]["fetch_again"]:
            self.assertIn(name, text)
        self.assertEqual(result["check"]["ok"], status == 0)
        self.files = {file["file"]: file for file in result["check"]["files"]}
        return result["check"]

    def snapshot(self, **how):
        return to_hub_cache(write_model(self.dir / "plain", shards=3, **how), self.dir / "hub")

    def test_a_flipped_byte_in_the_hub_cache(self):
        snapshot = self.snapshot()
        check = self.check(snapshot, 0)
        self.assertEqual({f["state"] for f in self.files.values()}, {"whole"})
        self.assertEqual(self.files["config.json"]["checked_by"], "git SHA-1")
        self.assertEqual(check["bytes_read"] > sum(f["bytes"] for f in self.files.values()) - 1, True)
        flip(snapshot / "model-00002-of-00003.safetensors")
        check = self.check(snapshot, 3)
        self.assertTrue(check["opens"])
        self.assertEqual(check["fetch_again"], ["model-00002-of-00003.safetensors"])
        self.assertEqual(self.files["model-00002-of-00003.safetensors"]["state"], "damaged")
        self.assertIn("SHA-256", self.files["model-00002-of-00003.safetensors"]["message"])
        self.assertEqual(check["fetch_command"], "hf download org/name model-00002-of-00003.safetensors "
                                                 f"--revision {COMMIT} --force-download")
        flip(snapshot / "config.json", at=20)
        check = self.check(snapshot, 3)
        self.assertEqual(check["fetch_again"], ["config.json", "model-00002-of-00003.safetensors"])

    def test_truncated_missing_and_pointers(self):
        model = write_model(self.dir / "model", shards=4)
        shard = [model / f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]
        size = shard[0].stat().st_size
        os.truncate(shard[0], size - 100)
        shard[1].write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n")
        shard[2].unlink()
        (model / "tokenizer.json").write_text('{"version": "1.0", "mod')
        check = self.check(model, 3)
        self.assertFalse(check["opens"])
        self.assertIn("model-00003-of-00004.safetensors", check["error"])
        self.assertEqual([self.files[s.name]["state"] for s in shard], ["truncated", "pointer", "missing", "well_formed"])
        self.assertRegex(self.files[shard[0].name]["message"], f"{size:,} bytes are expected, {size - 100:,} are there.* tensors are affected")
        self.assertIn("git lfs pull", self.files[shard[1].name]["message"])
        self.assertRegex(self.files[shard[2].name]["message"], r"not there; 5 of the 21 tensors of the index are in it")
        self.assertEqual(self.files["tokenizer.json"]["state"], "truncated")
        self.assertEqual(check["fetch_again"], [s.name for s in shard[:3]] + ["tokenizer.json"])
        self.assertIsNone(check["fetch_command"])
        (model / ".git").mkdir()
        self.assertIn("lfs pull --include", self.check(model, 3)["fetch_command"])

    def test_html_and_zeros(self):
        model = write_model(self.dir / "model")
        (model / "config.json").write_text("<!DOCTYPE html><html>login</html>")
        (model / "model.safetensors").write_bytes(b"\0" * 4096)
        self.check(model, 3)
        self.assertEqual(self.files["config.json"]["state"], "damaged")
        self.assertIn("HTML", self.files["config.json"]["message"])
        self.assertEqual(self.files["model.safetensors"]["state"], "damaged")

    def test_a_shard_of_another_revision(self):
        model = write_model(self.dir / "model", shards=3)
        other = write_model(self.dir / "other", shards=3, drop=["model.layers.1.input_layernorm.weight"])
        shutil.copy(other / "model-00002-of-00003.safetensors", model)
        check = self.check(model, 3)
        self.assertFalse(check["opens"])
        self.assertEqual(check["fetch_again"], ["model-00002-of-00003.safetensors"])
        self.assertEqual(self.files["model-00002-of-00003.safetensors"]["state"], "other_revision")
        self.assertRegex(self.files["model-00002-of-00003.safetensors"]["message"], "^1 of the 7 tensors that the index maps to it are not in it, model.layers.1.input")

    def test_a_shard_of_another_shape_or_dtype(self):
        model = write_model(self.dir / "model", shards=3)
        path = model / "model-00002-of-00003.safetensors"
        tensors = read_safetensors(path)
        first = next(name for name, (_, shape, _) in tensors.items() if len(shape) == 2)
        dtype, shape, data = tensors[first]
        write_safetensors(path, dict(tensors, **{first: (dtype, [shape[0] * 2, shape[1]], data * 2)}))
        self.check(model, 3)
        self.assertEqual(self.files[path.name]["state"], "other_revision")
        self.assertIn(f"{first} is [{shape[0] * 2}, {shape[1]}], config.json asks for [{shape[0]}, {shape[1]}]", self.files[path.name]["message"])
        write_safetensors(path, {name: ("F16", shape, data) for name, (_, shape, data) in tensors.items()})
        self.check(model, 3)
        self.assertEqual(self.files[path.name]["state"], "other_revision")
        self.assertIn("its matrices are F16, those of the other files and of config.json BF16", self.files[path.name]["message"])

    def test_an_index_and_a_config_of_another_revision(self):
        model = write_model(self.dir / "model", shards=3)
        other = write_model(self.dir / "other", shards=3)
        index = model / "model.safetensors.index.json"
        text = index.read_text()
        index.write_text(text.replace("model.", "new.", 5000).replace("new.safetensors", "model.safetensors"))
        check = self.check(model, 3)
        self.assertEqual(check["fetch_again"], [index.name])
        self.assertEqual(self.files[index.name]["state"], "other_revision")
        index.write_text(text)
        (model / "config.json").write_text(json.dumps(dict(CONFIG, hidden_size=64)))
        self.assertEqual(self.check(model, 3)["fetch_again"], ["config.json"])
        self.assertEqual(self.check(other, 0)["fetch_again"], [])

    def test_the_metadata_of_a_download_into_a_folder(self):
        model = write_model(self.dir / "model", shards=2)
        metadata = model / ".cache" / "huggingface" / "download"
        metadata.mkdir(parents=True)
        for file in model.iterdir():
            if file.is_file():
                data = file.read_bytes()
                digest = hashlib.sha256(data).hexdigest() if file.suffix == ".safetensors" else git_sha1(data)
                commit = OTHER if file.name == "tokenizer.json" else COMMIT
                (metadata / (file.name + ".metadata")).write_text(f"{commit}\n{digest}\n1700000000.0\n")
        self.check(model, 0)
        self.assertEqual({f["state"] for f in self.files.values()}, {"whole"})
        self.assertIn(f"downloaded at commit {OTHER}, most files at {COMMIT}", self.files["tokenizer.json"]["message"])
        flip(model / "model-00001-of-00002.safetensors")
        check = self.check(model, 3)
        self.assertEqual(check["fetch_again"], ["model-00001-of-00002.safetensors"])
        self.assertIn("--local-dir", check["fetch_command"])

    def test_an_unfinished_download_in_the_hub_cache(self):
        snapshot = self.snapshot()
        blob = (snapshot / "model-00003-of-00003.safetensors").resolve()
        blob.rename(str(blob) + ".incomplete")
        check = self.check(snapshot, 3)
        self.assertEqual(self.files["model-00003-of-00003.safetensors"]["state"], "missing")
        self.assertIn("a link to", self.files["model-00003-of-00003.safetensors"]["message"])
        self.assertIn(".incomplete", check["error"])

    def test_a_flipped_byte_in_what_sluice_wrote(self):
        write_model(self.dir / "a")
        write_model(self.dir / "b", update_seed=2)
        recipe = self.dir / "r.yml"
        recipe.write_text(recipe_text("linear", None, [("a", {"weight": 1}), ("b", {"weight": 1})]))
        self.run_ok("merge", recipe, "-o", self.dir / "merged", "--quiet")
        check = self.check(self.dir / "merged", 0)
        self.assertEqual((check["statement"], check["tensors_checked"]), ("sluice_merge.json", len(cli_models.shapes())))
        flip(self.dir / "merged" / "model.safetensors")
        check = self.check(self.dir / "merged", 3)
        self.assertEqual([c["file"] for c in check["changed_tensors"]], ["model.safetensors"])
        self.assertEqual(check["fetch_again"], ["model.safetensors"])

    def test_a_manifest_beside_the_weights(self):
        model = write_model(self.dir / "model", shards=2)
        self.run_ok("digest", model, "-o", model / "model.manifest.json", "--quiet")
        self.assertEqual(self.check(model, 0)["statement"], "model.manifest.json")
        flip(model / "model-00002-of-00002.safetensors")
        self.assertEqual(self.check(model, 3)["fetch_again"], ["model-00002-of-00002.safetensors"])

    def test_checksums_of_a_bin(self):
        model = write_model(self.dir / "model")
        tensors = read_safetensors(model / "model.safetensors")
        (model / "model.safetensors").unlink()
        path = model / "pytorch_model.bin"
        torch_files.write_torch(path, tensors)
        self.check(model, 0)
        self.assertEqual(self.files[path.name]["checked_by"], "CRC-32")
        whole = path.read_bytes()
        data = tensors["lm_head.weight"][2]
        flip(path, at=whole.index(data) + 7)
        check = self.check(model, 3)
        self.assertTrue(check["opens"])
        self.assertEqual(self.files[path.name]["state"], "damaged")
        self.assertIn("CRC-32", self.files[path.name]["message"])
        path.write_bytes(whole[: len(whole) // 2])
        self.check(model, 3)
        self.assertEqual(self.files[path.name]["state"], "truncated")

    def test_gguf_and_single_files(self):
        gguf = write_gguf(self.dir / "m.gguf")
        self.check(gguf, 0)
        os.truncate(gguf, pathlib.Path(gguf).stat().st_size - 64)
        self.check(gguf, 3)
        self.assertEqual(self.files["m.gguf"]["state"], "truncated")
        model = write_model(self.dir / "model", shards=2)
        self.check(model / "model-00001-of-00002.safetensors", 0)
        self.assertEqual(list(self.files), ["model-00001-of-00002.safetensors"])
        self.check(model / "model.safetensors.index.json", 0)

    def test_what_a_trainer_wrote_beside_a_model_is_no_damage(self):
        model = write_model(self.dir / "model")
        (model / "trainer_state.json").write_text('{"loss": NaN}')
        self.check(model, 0)
        self.assertIn("line 1", self.files["trainer_state.json"]["message"])
        (model / "tokenizer_config.json").write_text('{"model_max_length": NaN}')
        self.check(model, 3)
        self.assertEqual(self.files["tokenizer_config.json"]["state"], "damaged")

    def test_a_folder_of_several_models_is_not_damaged(self):
        write_gguf(self.dir / "a.gguf")
        write_gguf(self.dir / "b.gguf", seed=2)
        check = self.check(self.dir, 0)
        self.assertFalse(check["opens"])
        self.assertIn("name the file itself", check["error"])
        self.assertEqual(list(self.files), ["a.gguf", "b.gguf"])
        os.truncate(self.dir / "b.gguf", 5000)
        self.assertEqual(self.check(self.dir, 3)["fetch_again"], ["b.gguf"])

    def test_what_cannot_be_checked(self):
        self.run_fails(3, ["no such file"], "inspect", self.dir / "absent", "--check")
        (self.dir / "r.yml").write_text("models: []")
        self.run_fails(2, ["a recipe has no files"], "inspect", self.dir / "r.yml", "--check")


if __name__ == "__main__":
    cli_models.main()
