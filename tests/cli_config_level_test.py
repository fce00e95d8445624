"""verify --level config: what differs in configs, tokenizers and generation settings, key by key and token by token."""

import json

import cli_models
from cli_models import Case, write_gguf, write_model

VOCAB = {"a": 0, "b": 1, "ab": 2, "c": 3}
END = {"id": 4, "content": "</s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def tokenizer(vocab=VOCAB, merges=("a b",), added=(END,), **rest):
    return {"version": "1.0", "added_tokens": list(added), "normalizer": None, "model": {"type": "BPE", "vocab": dict(vocab), "merges": list(merges)}, **rest}


class ConfigLevel(Case):
    def model(self, name, tokens=None, tokens_config=None, generation=None, **options):
        folder = write_model(self.dir / name, **options)
        for file, content in (("tokenizer.json", tokens), ("tokenizer_config.json", tokens_config), ("generation_config.json", generation)):
            if content is not None:
                (folder / file).write_text(json.dumps(content))
        return folder

    def config_of(self, a, b, status=1):
        result = self.run_ok("verify", a, b, "--level", "config", "--json", status=status).json()
        self.assertEqual(result["level"], "config")
        self.assertEqual(result["bytes_read"], 0)
        return result["config"]

    def test_equal_tokenizers_are_not_taken_apart(self):
        a, b = self.model("a", tokenizer()), self.model("b", tokenizer(), shards=3, update_seed=5)
        config = self.config_of(a, b, status=0)
        self.assertIsNone(config["tokenizer"])
        self.assertEqual(config["idle_keys"], [])
        self.assertEqual(config["parameters"]["a"], sum(part["a"] for part in config["parts"].values()))
        self.assertIn("SAME_CONFIG", self.run_ok("verify", a, b, "--level", "config").out)

    def test_keys_that_change_nothing_are_told_apart_from_those_that_do(self):
        a = self.model("a", generation={"temperature": 0.6, "do_sample": True})
        b = self.model("b", generation={"temperature": 0.7, "do_sample": True, "top_p": 0.9}, config={"torch_dtype": "float32"})
        c = self.model("c", config={"rope_theta": 5e6})
        config = self.config_of(a, b, status=0)
        self.assertEqual([key["key"] for key in config["idle_keys"]], ["torch_dtype"])
        self.assertEqual(config["generation_config"], [{"key": "temperature", "a": "0.6", "b": "0.7"}, {"key": "top_p", "a": None, "b": "0.9"}])
        text = self.run_ok("verify", a, b, "--level", "config").out
        self.assertRegex(text, r"torch_dtype +\"bfloat16\" +\"float32\" +changes nothing")
        config = self.config_of(a, c)
        self.assertEqual([(key["key"], key["architectural"]) for key in config["keys"]], [("rope_parameters.rope_theta", True)])
        self.assertEqual(config["idle_keys"], [])  # rope_theta itself is not told a second time

    def test_an_extended_vocabulary(self):
        more = {"id": 5, "content": "<|im_start|>", "special": True}
        a = self.model("a", tokenizer(), {"bos_token": "<s>"})
        b = self.model("b", tokenizer(vocab={**VOCAB, "abc": 6}, merges=["a b", "ab c"], added=[END, more], normalizer={"type": "NFC"}),
                       {"bos_token": "</s>", "chat_template": "{{ x }}"})
        diff = self.config_of(a, b)["tokenizer"]
        self.assertEqual({key: diff["tokens"][key] for key in ("relation", "common", "moved", "only_in_a", "only_in_b")},
                         {"relation": "extended", "common": 5, "moved": 0, "only_in_a": 0, "only_in_b": 2})
        self.assertEqual(diff["tokens"]["first"], [{"token": "<|im_start|>", "a": None, "b": 5}, {"token": "abc", "a": None, "b": 6}])
        self.assertEqual(diff["added_tokens"]["relation"], "extended")
        self.assertEqual(diff["merges"], {"relation": "extended", "size": {"a": 1, "b": 2}, "first_difference": None})
        self.assertEqual(diff["chat_template"], "only_in_b")
        self.assertEqual([(key["file"], key["key"]) for key in diff["settings"]],
                         [("tokenizer.json", "normalizer"), ("tokenizer.json", "normalizer.type"), ("tokenizer_config.json", "bos_token")])
        self.assertEqual(self.config_of(b, a)["tokenizer"]["tokens"]["relation"], "reduced")
        text = self.run_ok("verify", a, b, "--level", "config", status=1).out
        self.assertIn("B has A's 5 tokens and 2 more; other merges, chat template, settings", text)

    def test_another_vocabulary(self):
        a = self.model("a", tokenizer())
        b = self.model("b", tokenizer(vocab={"a": 1, "b": 0, "ab": 2, "d": 3}, merges=["b a"], added=[{**END, "lstrip": True}]))
        diff = self.config_of(a, b)["tokenizer"]
        self.assertEqual({key: diff["tokens"][key] for key in ("relation", "common", "moved", "only_in_a", "only_in_b")},
                         {"relation": "differs", "common": 2, "moved": 2, "only_in_a": 1, "only_in_b": 1})
        self.assertEqual(diff["added_tokens"]["relation"], "differs")  # the same text, with another setting
        self.assertEqual(diff["added_tokens"]["moved"], 1)
        self.assertEqual(diff["merges"]["relation"], "differs")
        self.assertEqual(diff["merges"]["first_difference"], 0)
        self.assertIn("3 of A's 5 tokens are not B's", self.run_ok("verify", a, b, "--level", "config", status=1).out)

    def test_merges_may_be_written_in_two_ways(self):
        a, b = self.model("a", tokenizer()), self.model("b", tokenizer(merges=[["a", "b"]]))
        diff = self.config_of(a, b)["tokenizer"]
        self.assertEqual((diff["tokens"]["relation"], diff["merges"]["relation"], diff["settings"]), ("equal", "equal", []))
        self.assertIn("the same 5 tokens, in other files", self.run_ok("verify", a, b, "--level", "config", status=1).out)

    def test_one_side_without_a_tokenizer(self):
        a, b = self.model("a", tokenizer()), self.model("b", tokenizer=False)
        diff = self.config_of(a, b)["tokenizer"]
        self.assertEqual(diff["present"], {"a": True, "b": False})
        self.assertNotIn("tokens", diff)
        self.assertRegex(self.run_ok("verify", a, b, "--level", "config", status=1).out, r"tokenizer +only in A")

    def test_a_tokenizer_that_cannot_be_understood_is_told(self):
        a, b = self.model("a", tokenizer()), self.model("b", tokenizer())
        (b / "tokenizer.json").write_text('{"model": {}}')
        diff = self.config_of(a, b)["tokenizer"]
        self.assertIn("tokenizer.json", diff["problem"]["b"])
        self.assertIsNone(diff["problem"]["a"])
        self.assertIn("tokenizer that cannot be compared", self.run_ok("verify", a, b, "--level", "config", status=1).out)
        (b / "tokenizer.json").write_text("no json at all")
        self.assertIn("tokenizer.json", self.config_of(a, b)["tokenizer"]["problem"]["b"])

    def test_a_fingerprint_knows_that_a_tokenizer_is_another_one_but_not_how(self):
        a, b = self.model("a", tokenizer()), self.model("b", tokenizer(normalizer={"type": "NFC"}))
        self.run_ok("fingerprint", a, "-o", self.dir / "f.json")
        for model, status, found in ((a, 0, "same"), (b, 1, "other files")):
            self.assertRegex(self.run_ok("verify", model, "--against", self.dir / "f.json", status=status).out, rf"tokenizer +{found} ")

    def test_the_page(self):
        a, b = self.model("a", tokenizer(), generation={"temperature": 0.6}), self.model("b", tokenizer(normalizer={"type": "NFC"}), update_seed=4)
        page = self.dir / "pages" / "out.html"
        page.parent.mkdir()
        self.run_ok("verify", a, b, "--level", "tensors", "--report", page, status=1)
        html = page.read_text()
        for part in ("SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", "Where they differ", "title=\"layer 1, q: ", "normalizer (tokenizer.json)"):
            self.assertIn(part, html)
        for fetched in ("src=", "href=", "url("):
            self.assertNotIn(fetched, html)
        self.run_fails(6, ["config.json"], "verify", a, b, "--report", a / "config.json" / "x.html")
        self.run_fails(2, ["--report"], "verify", a, "--report", page)


if __name__ == "__main__":
    cli_models.main()
