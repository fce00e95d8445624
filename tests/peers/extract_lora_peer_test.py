"""Adapters that extract-lora writes, loaded by PEFT on the base: nothing missing, nothing unexpected, and after merge_and_unload() the model that BASE+ADAPTER
is here. Needs peft, transformers and torch (`make test-peers` does not fetch them); skipped without."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import warnings

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
peers.enter()
for package in ("peft", "transformers", "torch"):
    if importlib.util.find_spec(package) is None:
        peers.skip(f"{package} is not installed")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

RANK = 3


def llama(tied):
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        tie_word_embeddings=tied, max_position_embeddings=64))


def gpt2():
    torch.manual_seed(2)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def sluice(*arguments):
    return subprocess.run([SLUICE, *map(str, arguments), "--json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class ExtractedAdapters(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)

    @staticmethod
    def save(model, folder, prefix):
        model.save_pretrained(folder)
        if prefix:
            file = folder / "model.safetensors"
            save_file({name.removeprefix(prefix): tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})

    def check(self, model, chosen, *more, rank=RANK, adapter_rank=None, prefix=""):
        """Moves the chosen matrices by updates of `rank`; extracts, and holds PEFT's merge to sluice's and both to the fine-tune. `prefix`: what names in
        the files lack."""
        base, tune, lora, applied = (self.dir / name for name in ("base", "tune", "lora", "applied"))
        self.save(model, base, prefix)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() == 2 and chosen(name):
                    weight += 0.02 * torch.randn(weight.shape[0], rank) @ torch.randn(rank, weight.shape[1])
        self.save(model, tune, prefix)
        sluice("extract-lora", tune, "--base", base, "--rank", adapter_rank or rank, "-o", lora, *more)
        sluice("convert", f"{base}+{lora}", "-o", applied)

        loaded = transformers.AutoModelForCausalLM.from_pretrained(base)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with_adapter = peft.PeftModel.from_pretrained(loaded, lora)
        said = [str(w.message) for w in caught if "adapter" in str(w.message).lower() and "key" in str(w.message).lower()]
        self.assertEqual(said, [])
        self.assertEqual(with_adapter.peft_config["default"].peft_type, peft.PeftType.LORA)
        ids = torch.arange(20).reshape(1, 20)
        beside = with_adapter.eval()(ids).logits  # factors beside the weights, as it is used in training
        merged = with_adapter.merge_and_unload()
        ours, peft_s, tuned = load_file(applied / "model.safetensors"), merged.state_dict(), model.state_dict()
        for short, weight in ours.items():
            name = prefix + short
            # docs/lora.md: two orders of a sum of RANK products in f32; and of the fine-tune, what f32 rounds of its update.
            largest = float(weight.abs().max())
            self.assertLess(float((peft_s[name] - weight).abs().max()), 2 * (RANK + 8) * 2**-24 * (largest + 1), name)
            self.assertLessEqual(float((tuned[name] - weight).norm()), 1e-5 * float(weight.norm()), name)
        torch.testing.assert_close(model.eval()(ids).logits, merged.eval()(ids).logits, rtol=0, atol=1e-4)
        torch.testing.assert_close(merged.eval()(ids).logits, beside, rtol=0, atol=1e-4)
        return json.loads((lora / "adapter_config.json").read_text())

    def test_all_linear_layers(self):
        config = self.check(llama(False), lambda name: "proj" in name)
        self.assertEqual(len(config["target_modules"]), 7)

    def test_layers_of_their_own_rank(self):
        config = self.check(llama(False), lambda name: "proj" in name, adapter_rank=12)
        self.assertEqual(set(config["rank_pattern"].values()), {8})  # k_proj and v_proj have 8 rows

    def test_some_layers_alone(self):
        config = self.check(llama(True), lambda name: name.endswith(("layers.1.self_attn.q_proj.weight", "up_proj.weight")))
        self.assertEqual(config["target_modules"], ["model.layers.1.self_attn.q_proj", "up_proj"])

    def test_embeddings_and_head(self):
        self.check(llama(False), lambda name: "proj" in name or "embed" in name or "lm_head" in name, "--include-embeddings")

    def test_gpt_2_s_transposed_layers(self):
        config = self.check(gpt2(), lambda name: ".h." in name)
        self.assertTrue(config["fan_in_fan_out"])

    def test_files_without_the_model_s_prefix(self):
        config = self.check(gpt2(), lambda name: "h.1.mlp.c_proj" in name, prefix="transformer.")
        self.assertEqual(config["target_modules"], ["transformer.h.1.mlp.c_proj"])


if __name__ == "__main__":
    unittest.main()
