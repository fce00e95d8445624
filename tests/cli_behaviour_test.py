"""verify --level behaviour: challenges that a third party recomputes, verdicts, evidence, and runs that must not end in SAME."""

import hashlib
import json
import random
import struct

import budgets
import cli_models
import json_schemas
from behaviour_challenges import challenge_of, order_of, run_id_of
from cli_forward_test import byte_tokenizer
from cli_lora_test import write_adapter
from cli_models import Case, bf16, f32, read_safetensors, recipe_text, sluice, write_model, write_safetensors

VOCAB = 256
KEY = "00112233445566778899aabbccddeeff"
ALPHA, GAMMA = 0.01, 0.025


# ---------------------------------------------------------------------------------------------------------------------
# The test of docs/sequential_test.md, from its words.


def outcome_of(scores, gamma=GAMMA, alpha=ALPHA, population=None):
    """(outcome, decided at), with fractions kept as floats: near no boundary that is the same."""
    shares = [2 ** (-j / 2) for j in range(24)]
    below = [1 / ((j + 1) * (j + 2)) for j in range(24)]
    above = [1 / 25] * 24
    total = 0.0
    for t, x in enumerate(scores):
        level = gamma if population is None else (population * gamma - total) / (population - t)
        level = min(max(level, 2.0**-50), 1 - 2.0**-50)
        below = [part * (1 + c * (level - x) / (1 - level)) for part, c in zip(below, shares)]
        above = [part * (1 + c * (x - level) / level) for part, c in zip(above, shares)]
        total += x
        same, different = sum(below) + 1 / 25 >= 1 / alpha, sum(above) + 1 / 25 >= 1 / alpha
        if population is not None:
            left, missing = population - t - 1, population * gamma - total
            same, different = same or missing - 1e-9 > left, different or missing + 1e-9 < 0
        if same != different:
            return ("SAME_BEHAVIOUR" if same else "DIFFERENT_BEHAVIOUR"), t + 1
    return "UNDECIDED", None


# ---------------------------------------------------------------------------------------------------------------------


class Behaviour(Case):
    schema = json_schemas.load("verify")

    def setUp(self):
        super().setUp()
        self.base = self.model("base")

    def model(self, name, tokenizer=byte_tokenizer(), **how):
        """With a head that is sure of something: distributions far from uniform differ where the weights do."""
        folder = write_model(self.dir / name, vocab=VOCAB, **how)
        (folder / "tokenizer.json").write_text(tokenizer)
        (folder / "tokenizer_config.json").unlink()

        def louden(tensors):
            dtype, shape, data = tensors["lm_head.weight"]
            tensors["lm_head.weight"] = (dtype, shape, bf16([32 * value for value in cli_models.decode_bf16(data)]))

        return self.edit(folder, louden)

    def told(self, *arguments, status=0, verdict=""):
        """The answer, which must fit the schema; status None: whichever follows from the scores."""
        result = sluice("verify", *arguments, "--level", "behaviour", "--json", cwd=self.dir)
        self.assertIn(result.status, (0, 1, 5) if status is None else (status,), result)
        value = result.json()
        self.assertEqual(json_schemas.complaints(self.schema, value), [], result)
        if verdict != "":
            self.assertEqual(value["verdict"], verdict, result)
        return value

    def edit(self, folder, change):
        """change: of name -> (dtype, shape, data)."""
        tensors = read_safetensors(folder / "model.safetensors")
        change(tensors)
        write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
        return folder

    def recast(self, name, dtype, pack):
        """The base's numbers in another encoding that holds all of them."""
        folder = self.model(name)

        def cast(tensors):
            for key, (_, shape, data) in tensors.items():
                tensors[key] = (dtype, shape, pack(cli_models.decode_bf16(data)))

        return self.edit(folder, cast)


class Verdicts(Behaviour):
    def test_a_model_and_itself_score_exactly_0(self):
        self.run_ok("convert", "base", "-o", "shards", "--out-shard-size", "20kB", cwd=self.dir)
        shards = self.dir / "shards"
        self.assertGreater(len(list(shards.glob("*.safetensors"))), 2)
        wide = self.recast("wide", "F32", f32)
        small = budgets.mebibytes(64)
        for ref, *more in ((self.base,), (shards, "--threads", "1"), (wide, "--threads", "3"), (self.base, "--max-memory", small)):
            result = self.told(self.base, ref, "--challenges", "256", *more, verdict="SAME_BEHAVIOUR")
            behaviour = result["behaviour"]
            self.assertEqual(behaviour["scores"], [0] * 256)
            self.assertEqual((behaviour["decided_at"], behaviour["mean"], behaviour["largest"]), (206, 0, 0))
            self.assertEqual(behaviour["most_differing"], [])
            self.assertEqual(behaviour["noise_floor"], 0)
            self.assertEqual(behaviour["interval"]["lower"], 0)
            self.assertLess(behaviour["interval"]["upper"], GAMMA)

    def test_another_model_differs(self):
        other = self.model("other", seed=2)
        result = self.told(self.base, other, "--challenges", "64", status=1, verdict="DIFFERENT_BEHAVIOUR")
        behaviour = result["behaviour"]
        self.assertEqual(outcome_of(behaviour["scores"]), ("DIFFERENT_BEHAVIOUR", behaviour["decided_at"]))
        self.assertGreater(behaviour["interval"]["lower"], GAMMA)
        self.assertGreater(behaviour["interval"]["upper"], behaviour["mean"])
        told = behaviour["most_differing"]
        self.assertEqual([one["score"] for one in told], sorted(behaviour["scores"], reverse=True)[:10])
        self.assertTrue(all(behaviour["scores"][one["challenge"]] == one["score"] for one in told))

    def test_few_challenges_are_undecided(self):
        result = self.told(self.base, self.base, "--challenges", "205", status=5, verdict="UNDECIDED")
        self.assertIsNone(result["behaviour"]["decided_at"])
        self.assertGreater(result["behaviour"]["interval"]["upper"], GAMMA)
        self.assertEqual(result["behaviour"]["power"]["same"]["any_rule"], 182)
        self.assertIsNone(result["behaviour"]["power"]["same"]["zeros"])

    def test_a_light_change_is_the_same_and_settings_move_the_answer(self):
        light = self.light()
        result = self.told(self.base, light, "--challenges", "300", "--nonce", KEY, verdict="SAME_BEHAVIOUR")
        scores = result["behaviour"]["scores"]
        self.assertTrue(all(score > 0 for score in scores))
        mean = sum(scores) / len(scores)
        self.assertAlmostEqual(result["behaviour"]["mean"], mean, delta=1e-12)
        # The scores do not hang on gamma, but the run id does, and with it what is asked.
        strict = self.told(self.base, light, "--challenges", "300", "--gamma", str(mean / 4), "--alpha", "0.05", status=1)
        self.assertEqual(outcome_of(strict["behaviour"]["scores"], mean / 4, 0.05), (strict["verdict"], strict["behaviour"]["decided_at"]))

    def light(self):
        """The base with one matrix a little changed."""
        folder, name = self.model("light"), "model.layers.1.mlp.down_proj.weight"

        def change(tensors):
            dtype, shape, data = tensors[name]
            noise = random.Random(4)
            tensors[name] = (dtype, shape, bf16([value * (1 + 0.5 * noise.gauss(0, 1)) for value in cli_models.decode_bf16(data)]))

        return self.edit(folder, change)

    def test_recipes_adapters_and_other_containers(self):
        self.model("tune", update_seed=7)
        (self.dir / "recipe.yml").write_text(recipe_text("linear", None, [("base", {"weight": 0.5}), ("tune", {"weight": 0.5})]))
        self.run_ok("merge", "recipe.yml", "-o", "merged", cwd=self.dir)
        result = self.told("merged", "recipe.yml", "--challenges", "32", status=5)
        self.assertEqual(result["behaviour"]["scores"], [0] * 32)
        self.assertGreater(self.told("base", "recipe.yml", "--challenges", "32", status=None)["behaviour"]["mean"], 0)
        self.run_ok("convert", "base", "-o", "base.gguf", "--dtype", "f32", cwd=self.dir)
        result = self.told("base", "base.gguf", "--challenges", "32", status=5)
        self.assertEqual(result["behaviour"]["scores"], [0] * 32)

    def test_an_adapter_on_a_side_is_the_merge_that_it_writes(self):
        base, lora = write_model(self.dir / "plain", dtype="F32"), write_adapter(self.dir / "lora")
        self.run_ok("convert", f"{base}+{lora}", "-o", "applied", cwd=self.dir)
        same = self.told(f"{base}+{lora}", "applied", "--challenges", "16", status=5)
        self.assertEqual(same["behaviour"]["scores"], [0] * 16)
        self.assertGreater(self.told(base, f"{base}+{lora}", "--challenges", "16", status=None)["behaviour"]["mean"], 0)

    def test_rounds_tell_how_it_stands_and_change_nothing(self):
        other = self.model("other", update_seed=3)
        asked = ("verify", self.base, other, "--level", "behaviour", "--challenges", "2048", "--nonce", KEY, "--json")
        whole = sluice(*asked)
        limit = 56 + budgets.SANITIZER_MIB
        rounds = sluice(*asked, "--max-memory", f"{limit}MiB")
        self.assertEqual(rounds.status, whole.status, rounds)
        self.assertEqual(rounds.json()["behaviour"], whole.json()["behaviour"])
        self.assertLessEqual(rounds.json()["memory"]["peak"], limit << 20)
        plan = sluice(*asked, "--max-memory", f"{limit}MiB", "--dry-run").json()["plan"]
        told = [line for line in rounds.err.splitlines() if "of 2,048 challenges the mean score lies in" in line]
        self.assertGreater(plan["rounds"], 1)
        self.assertIn(len(told), range(1, 9), rounds.err)
        self.assertNotIn("the mean score lies in", whole.err + sluice(*asked, "--max-memory", f"{limit}MiB", "--quiet").err)

    def test_memory_is_bound_and_reads_do_not_grow_with_challenges(self):
        other = self.model("other", update_seed=3)
        payload = sum(len(data) for folder in (self.base, other) for _, _, data in read_safetensors(folder / "model.safetensors").values())
        limit = 96 + budgets.SANITIZER_MIB
        for challenges in ("16", "128"):
            result = self.told(self.base, other, "--challenges", challenges, "--max-memory", f"{limit}MiB", status=None)
            self.assertEqual(result["bytes_read"], payload, challenges)
            self.assertLessEqual(result["memory"]["peak"], limit << 20)


class Challenges(Behaviour):
    def test_a_third_party_recomputes_commitment_and_challenges(self):
        other = self.model("other", seed=2)
        result = self.told(self.base, other, "--challenges", "8", "--challenge-tokens", "12", "--nonce", KEY, status=1)
        commitment = result["behaviour"]["commitment"]
        self.assertEqual(commitment["key"], KEY)
        self.assertEqual(commitment["run_id"], run_id_of(commitment))
        line = json.dumps({"key": KEY, "run_id": commitment["run_id"]}, separators=(",", ":"))
        self.assertEqual(commitment["sha256"], hashlib.sha256(line.encode()).hexdigest())
        terms = commitment["terms"]
        self.assertEqual((terms["gamma"], terms["alpha"], terms["challenges"], terms["challenge_tokens"]), (GAMMA, ALPHA, 8, 12))
        self.assertEqual(terms["drawable_tokens"], VOCAB)
        ids = struct.pack(f"<{VOCAB}I", *range(VOCAB))
        self.assertEqual(terms["vocabulary_sha256"], hashlib.sha256(ids + ids).hexdigest())
        told = result["behaviour"]["most_differing"]
        self.assertEqual(len(told), 8)
        for one in told:
            self.assertEqual(one["ids"], challenge_of(commitment, one["challenge"], list(range(VOCAB))))
        self.assertEqual(self.told(self.base, other, "--challenges", "8", "--challenge-tokens", "12", "--nonce", KEY, status=1)["behaviour"],
                         result["behaviour"])
        drawn = self.told(self.base, other, "--challenges", "8", "--challenge-tokens", "12", status=1)["behaviour"]["commitment"]
        self.assertNotEqual(drawn["key"], KEY)

    def test_special_tokens_are_not_drawn(self):
        tokenizer = json.loads(byte_tokenizer())
        tokenizer["added_tokens"] = [{"id": i, "content": f"<special{i}>", "special": True, "single_word": False, "lstrip": False,
                                      "rstrip": False, "normalized": False} for i in range(10, 250)]
        tokenizer["model"]["vocab"] = {token: i for token, i in tokenizer["model"]["vocab"].items() if not 10 <= i < 250}
        for name in ("base", "other"):
            self.model(name, tokenizer=json.dumps(tokenizer), seed=len(name))
        result = self.told("base", "other", "--challenges", "4", status=1)
        self.assertEqual(result["behaviour"]["alignment"]["drawable"], 16)
        for one in result["behaviour"]["most_differing"]:
            self.assertEqual(one["ids"], challenge_of(result["behaviour"]["commitment"], one["challenge"], [*range(10), *range(250, 256)]))

    def test_prompts_are_a_set_in_keyed_order(self):
        other = self.model("other", seed=2)
        lines = [f"prompt number {i}" for i in range(7)]
        (self.dir / "p.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
        result = self.told(self.base, other, "--prompts", "p.txt", "--nonce", KEY, status=1)
        behaviour = result["behaviour"]
        self.assertEqual((behaviour["population"], behaviour["challenges"], behaviour["challenge_tokens"]), (7, 7, None))
        self.assertEqual((result["verdict"], behaviour["decided_at"]), outcome_of(behaviour["scores"], population=7))
        order = order_of(KEY, 7)
        for one in behaviour["most_differing"]:
            place = order[one["challenge"]]
            self.assertEqual((one["line"], one["text"], one["ids"]), (2 * place + 1, lines[place], list(lines[place].encode())))
        some = self.told(self.base, other, "--prompts", "p.txt", "--nonce", KEY, "--challenges", "3", status=1)["behaviour"]
        self.assertEqual((some["population"], some["scores"]), (7, behaviour["scores"][:3]))
        # All of a set that is equal is known, not estimated.
        same = self.told(self.base, self.base, "--prompts", "p.txt", verdict="SAME_BEHAVIOUR")
        self.assertEqual((same["verdict"], same["behaviour"]["decided_at"]), outcome_of([0] * 7, population=7))
        self.assertIn("these", same["does_not_prove"])


class Alignment(Behaviour):
    def permuted(self, name, order, extra=()):
        """The base where token order[i] has id i; `extra`: more tokens, with rows of their own."""
        tokenizer = json.loads(byte_tokenizer())
        by_id = {i: token for token, i in tokenizer["model"]["vocab"].items()}
        tokenizer["model"]["vocab"] = {by_id[old]: i for i, old in enumerate(order)} | {text: len(order) + i for i, text in enumerate(extra)}
        folder = self.model(name, tokenizer=json.dumps(tokenizer))
        rows = len(order) + len(extra)

        def permute(tensors):
            for key in ("model.embed_tokens.weight", "lm_head.weight"):
                dtype, (_, columns), data = tensors[key]
                row = 2 * columns
                new = b"".join(data[old * row : (old + 1) * row] for old in order)
                new += bf16(cli_models.normal(9, len(extra) * columns))
                tensors[key] = (dtype, [rows, columns], new)

        self.edit(folder, permute)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(dict(config, vocab_size=rows)))
        return folder

    def test_another_numbering_of_the_same_tokens_scores_exactly_0(self):
        order = list(range(VOCAB))
        random.Random(1).shuffle(order)
        other = self.permuted("other", order)
        (self.dir / "p.txt").write_text("one prompt\nand another\n")
        for refs in ((self.base, other), (other, self.base)):
            result = self.told(*refs, "--challenges", "24", status=5)
            self.assertEqual(result["behaviour"]["scores"], [0] * 24)
            self.assertEqual(result["behaviour"]["alignment"]["by"], "by_bytes")
            self.assertEqual(result["behaviour"]["alignment"]["shared"], VOCAB)
            self.assertEqual(self.told(*refs, "--prompts", "p.txt", verdict="SAME_BEHAVIOUR")["behaviour"]["scores"], [0, 0])

    def test_tokens_that_one_side_lacks_are_mass(self):
        for order in (list(range(VOCAB)), [*range(128, VOCAB), *range(128)]):
            other = self.permuted("other", order, extra=["ab", "cd"])
            result = self.told(self.base, other, "--challenges", "8", status=None)
            alignment = result["behaviour"]["alignment"]
            self.assertEqual((alignment["shared"], alignment["only_in_a"], alignment["only_in_b"]), (VOCAB, 0, 2))
            # Two of 258 tokens have about 2/258 of the probability; total variation is that or a little more.
            self.assertGreater(result["behaviour"]["mean"], 0.002)
            self.assertLess(result["behaviour"]["mean"], 0.05)

    def test_without_tokenizers_ids_are_taken_for_the_same(self):
        for folder in (self.base, self.model("other")):
            (folder / "tokenizer.json").unlink()
        result = self.told(self.base, "other", "--challenges", "8", status=5)
        self.assertEqual(result["behaviour"]["alignment"]["by"], "by_number")
        self.assertIn("neither model has a tokenizer", result["behaviour"]["alignment"]["note"])
        (self.dir / "p.txt").write_text("x\n")
        self.assertIn("tokenizer", self.told(self.base, "other", "--prompts", "p.txt", status=3, verdict="INVALID")["behaviour"]["invalid"])
        longer = self.permuted("longer", list(range(VOCAB)), extra=["ab"])
        (longer / "tokenizer.json").unlink()
        self.assertIn("256 and 257", self.told(self.base, longer, status=3, verdict="INVALID")["behaviour"]["invalid"])

    def test_prompts_that_do_not_encode_alike_are_invalid(self):
        tokenizer = json.loads(byte_tokenizer())
        tokenizer["model"]["vocab"]["ab"] = VOCAB
        tokenizer["model"]["merges"] = ["a b"]
        other = self.permuted("other", list(range(VOCAB)), extra=["ab"])
        (other / "tokenizer.json").write_text(json.dumps(tokenizer))
        (self.dir / "p.txt").write_text("no such pair\n\nabsent\n")
        result = self.told(self.base, other, "--prompts", "p.txt", status=3, verdict="INVALID")
        self.assertIn("p.txt: line 3", result["behaviour"]["invalid"])
        self.assertEqual(result["proves"][:8], "nothing:")


class Failures(Behaviour):
    def test_a_nan_is_invalid(self):
        def poison(tensors):
            dtype, shape, data = tensors["model.layers.1.mlp.down_proj.weight"]
            tensors["model.layers.1.mlp.down_proj.weight"] = (dtype, shape, struct.pack("<H", 0x7FC0) + data[2:])

        bad = self.edit(self.model("bad"), poison)
        for refs in ((self.base, bad), (bad, self.base), (bad, bad)):
            result = self.told(*refs, "--challenges", "4", status=3, verdict="INVALID")
            self.assertIn("NaN", result["behaviour"]["invalid"])
            self.assertIsNotNone(result["behaviour"]["commitment"])

    def test_prompts_that_are_none(self):
        for text, words in ((b"", "no prompt"), (b"\n\r\n", "no prompt"), (b"good\nbad \xff\n", "line 2")):
            (self.dir / "p.txt").write_bytes(text)
            result = self.told(self.base, self.base, "--prompts", "p.txt", status=3, verdict="INVALID")
            self.assertIn(words, result["behaviour"]["invalid"])
        self.run_fails(3, ["nowhere.txt"], "verify", self.base, self.base, "--level", "behaviour", "--prompts", "nowhere.txt")

    def test_bad_requests(self):
        both = ("verify", self.base, self.base, "--level", "behaviour")
        for option, value in (("--gamma", "0"), ("--gamma", "1"), ("--gamma", "-1"), ("--alpha", "0"), ("--alpha", "0.9"), ("--challenges", "0"),
                              ("--challenge-tokens", "0"), ("--nonce", "xyz")):
            self.run_fails(2, [option.strip("-").replace("nonce", "nonce"), value], *both, option, value)
        self.run_fails(2, ["--challenge-tokens", "--prompts"], *both, "--challenge-tokens", "8", "--prompts", "p.txt")
        self.run_fails(2, ["name two"], "verify", self.base, "--level", "behaviour")
        for more in (("--atol", "1"), ("--first-difference",), ("--detect", "0.1")):
            self.run_fails(2, ["use --level"], *both, *more)
        for option in ("--gamma", "--alpha", "--challenges", "--challenge-tokens", "--prompts"):
            self.run_fails(2, ["--level behaviour"], "verify", self.base, self.base, option, "0.5" if option in ("--gamma", "--alpha") else "5")
        self.run_fails(4, ["--max-memory"], *both, "--max-memory", "1MiB")
        (self.base / "config.json").unlink()
        self.run_fails(2, ["config.json"], *both)

    def test_dry_run_runs_nothing(self):
        result = sluice("verify", self.base, self.base, "--level", "behaviour", "--dry-run", "--json")
        self.assertEqual(result.status, 0, result)
        self.assertEqual(json_schemas.complaints(self.schema, result.json()), [])
        plan = result.json()["plan"]
        self.assertEqual((plan["challenges"], plan["tokens"], plan["power"]["same"]["zeros"]), (1024, 65536, 206))
        text = self.run_ok("verify", self.base, self.base, "--level", "behaviour", "--dry-run").out
        for words in ("least for SAME", "182", "commitment", "memory"):
            self.assertIn(words, text)

    def test_text(self):
        other = self.model("other", seed=2)
        text = self.run_ok("verify", self.base, other, "--level", "behaviour", "--challenges", "32", status=1).out
        self.assertTrue(text.startswith("DIFFERENT_BEHAVIOUR  (level behaviour)"), text)
        for words in ("interval", "capital", "noise floor", "does not prove", "the challenges on which the two differ most"):
            self.assertIn(words, text)


class Evidence(Behaviour):
    evidence_schema = json_schemas.load("evidence")

    def keep(self, *arguments, status):
        told = self.told(*arguments, "--evidence", "proof", status=status)
        evidence = json.loads((self.dir / "proof" / "evidence.json").read_text())
        self.assertEqual(json_schemas.complaints(self.evidence_schema, evidence), [])
        self.assertEqual(json.loads((self.dir / "proof" / "result.json").read_text()), told)
        return told, evidence

    def test_a_bundle_reproduces_and_a_changed_byte_is_found(self):
        self.model("other", seed=2)
        (self.dir / "p.txt").write_text("one\ntwo\nthree\n")
        for more, papers in (((), {"commitment.json", "report.html"}), (("--prompts", "p.txt"), {"commitment.json", "report.html", "prompts.txt"})):
            told, evidence = self.keep("base", "other", "--challenges", "16", "--force", *more, status=1)
            self.assertEqual({file["name"] for file in evidence["files"]}, papers | {"result.json"})
            self.assertEqual(evidence["form"], "behaviour")
            commitment = (self.dir / "proof.commitment.json").read_bytes()
            self.assertEqual(commitment, (self.dir / "proof" / "commitment.json").read_bytes())
            self.assertEqual(json.loads(commitment)["commitment"], told["behaviour"]["commitment"]["sha256"])
            if more:
                (self.dir / "p.txt").write_text("changed since\n")  # the bundle has them
            replay = self.run_ok("verify", "--replay", "proof", "--json", "--threads", "1", cwd=self.dir).json()
            self.assertEqual(json_schemas.complaints(self.schema, replay), [])
            self.assertTrue(replay["replay"]["reproduced"])
            self.assertEqual(replay["behaviour"], told["behaviour"])
            for name in ["evidence.json", "SHA256SUMS", *(file["name"] for file in evidence["files"])]:
                path = self.dir / "proof" / name
                good = path.read_bytes()
                at = len(good) // 2
                path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
                self.run_fails(3, [name, "changed"], "verify", "--replay", "proof", cwd=self.dir)
                path.write_bytes(good)

    def test_the_commitment_is_there_before_the_run(self):
        def poison(tensors):
            dtype, shape, data = tensors["model.norm.weight"]
            tensors["model.norm.weight"] = (dtype, shape, struct.pack("<H", 0x7FC0) + data[2:])

        self.edit(self.model("bad"), poison)
        self.keep("base", "bad", "--challenges", "4", status=3)
        self.assertTrue((self.dir / "proof.commitment.json").exists())
        self.run_ok("verify", "--replay", "proof", cwd=self.dir)
        self.run_fails(2, ["proof", "--force"], "verify", "base", "bad", "--level", "behaviour", "--evidence", "proof", cwd=self.dir)

    def test_a_changed_model_does_not_reproduce(self):
        self.keep("base", "base", "--challenges", "16", status=5)

        def change(tensors):
            dtype, shape, data = tensors["lm_head.weight"]
            tensors["lm_head.weight"] = (dtype, shape, data[:101] + bytes([data[101] ^ 0x80]) + data[102:])

        self.edit(self.model("other"), change)
        result = sluice("verify", "--replay", "proof", "base", "other", "--json", cwd=self.dir)
        self.assertEqual(result.status, 1, result)
        self.assertFalse(result.json()["replay"]["reproduced"])


class Parts(Behaviour):
    """Shares of a run, each a process of its own, put together."""

    evidence_schema = json_schemas.load("evidence")

    def part(self, number, of, *more, b="other", challenges="40", status=0, nonce=KEY):
        return self.told("base", b, "--challenges", challenges, "--nonce", nonce, "--part", f"{number}/{of}", "--evidence", f"part{number}",
                         "--force", *more, status=status)

    def join(self, *folders, status):
        result = sluice("verify", "--join", *folders, "--json", cwd=self.dir)
        self.assertEqual(result.status, status, result)
        self.assertEqual(json_schemas.complaints(self.schema, result.json()), [])
        return result.json()

    def test_two_parts_are_one_run(self):
        self.model("other", seed=2)
        (self.dir / "p.txt").write_text("\n".join(f"prompt {i}" for i in range(9)))
        for more in ((), ("--prompts", "p.txt")):
            whole = self.told("base", "other", "--challenges", "40", "--nonce", KEY, *more, status=1)
            for number in (1, 2):
                told = self.part(number, 2, *more)
                self.assertLess(len(told["behaviour"]["scores"]), len(whole["behaviour"]["scores"]))
                self.assertIn("part", told["behaviour"])
            for folders in (("part1", "part2"), ("part2", "part1")):
                joined = self.join(*folders, "--evidence", "joined", "--force", status=1)
                self.assertEqual(joined["behaviour"], whole["behaviour"])
                self.assertEqual((joined["verdict"], joined["proves"], joined["config"]), (whole["verdict"], whole["proves"], whole["config"]))
            # What was joined is a bundle like that of one run.
            replay = self.run_ok("verify", "--replay", "joined", "--json", cwd=self.dir).json()
            self.assertTrue(replay["replay"]["reproduced"])
            # A part is done again like a whole run.
            self.run_ok("verify", "--replay", "part2", cwd=self.dir)

    def test_a_failed_part_makes_the_run_invalid(self):
        def poison(tensors):
            dtype, shape, data = tensors["model.norm.weight"]
            tensors["model.norm.weight"] = (dtype, shape, struct.pack("<H", 0x7FC0) + data[2:])

        self.model("other")
        self.part(1, 2)
        self.edit(self.dir / "other", poison)
        self.part(2, 2, status=3)
        # The headers are those that part 1 saw; the weights are what fails.
        self.assertIn("part 2/2", self.join("part1", "part2", status=3)["behaviour"]["invalid"])

    def test_parts_that_are_no_whole_are_refused(self):
        self.model("other", seed=2)
        for number in (1, 2):
            self.part(number, 3)
        self.run_fails(2, ["part 3 of 3 is missing"], "verify", "--join", "part1", "part2", cwd=self.dir)
        self.run_fails(2, ["part1", "1/3"], "verify", "--join", "part1", "part2", "part1", cwd=self.dir)
        self.part(3, 3, nonce=KEY[::-1])
        self.run_fails(2, ["part3", "another run"], "verify", "--join", "part1", "part2", "part3", cwd=self.dir)
        self.part(3, 3, "--gamma", "0.03")
        self.run_fails(2, ["part3", "another run"], "verify", "--join", "part1", "part2", "part3", cwd=self.dir)
        self.told("base", "other", "--challenges", "40", "--nonce", KEY, "--evidence", "whole", status=1)
        self.run_fails(2, ["whole", "--part"], "verify", "--join", "part1", "part2", "whole", cwd=self.dir)
        self.part(3, 3)
        path = self.dir / "part3" / "result.json"
        told = path.read_bytes()
        path.write_bytes(told[:-9] + bytes([told[-9] ^ 1]) + told[-8:])
        self.run_fails(3, ["result.json", "changed"], "verify", "--join", "part1", "part2", "part3", cwd=self.dir)
        self.run_fails(3, ["nowhere"], "verify", "--join", "part1", "part2", "nowhere", cwd=self.dir)
        self.run_fails(2, ["--join"], "verify", "--join", cwd=self.dir)
        for wrong in ("0/2", "3/2", "1", "x/y", "1/0"):
            self.run_fails(2, ["--part"], "verify", "base", "other", "--level", "behaviour", "--nonce", KEY, "--part", wrong, "--evidence", "p",
                           cwd=self.dir)
        self.run_fails(2, ["--nonce"], "verify", "base", "other", "--level", "behaviour", "--part", "1/2", "--evidence", "p", cwd=self.dir)
        self.run_fails(2, ["--evidence"], "verify", "base", "other", "--level", "behaviour", "--part", "1/2", "--nonce", KEY, cwd=self.dir)


if __name__ == "__main__":
    cli_models.main()
