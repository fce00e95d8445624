"""verify --level tensors on tiny models: ranks of changes, token rows, units in the last place, grids, first differences."""

import pathlib
import struct

import budgets
import cli_models
from cli_models import Case, bf16, decode_bf16, f32, normal, q8_0, shapes, values_of, write_model

HIDDEN = 128  # the tiny Llama's q_proj is [128, 128] then, its v_proj [64, 128]
ATTENTION = [f"model.layers.{layer}.self_attn.{kind}.weight" for layer in range(2) for kind in ("q_proj", "v_proj")]


def low_rank(seed, rows, columns, rank, strength):
    """Of so many equally strong directions; `strength` is the root mean square."""
    left, right = normal(seed, rows * rank, 1), normal(seed + 1, rank * columns, strength / rank**0.5)
    return [sum(left[r * rank + j] * right[j * columns + c] for j in range(rank)) for r in range(rows) for c in range(columns)]


def original():
    """Values as BF16 stores them."""
    return {name: decode_bf16(bf16(values)) for name, values in values_of(1, hidden=HIDDEN).items()}


def tensor(name, values, pack=bf16, dtype="BF16"):
    return {name: (dtype, shapes(hidden=HIDDEN)[name], pack(values))}


def dequantise_q8_0(values):
    out, data = [], q8_0(values)
    for at in range(0, len(data), 34):
        d, *q = struct.unpack("<e32b", data[at : at + 34])
        out += [d * x for x in q]
    return out


def dequantise_q4_0(values):
    """ggml's quantize_row_q4_0_ref and back."""
    out = []
    for at in range(0, len(values), 32):
        block = values[at : at + 32]
        d = max(block, key=abs) / -8
        half = struct.unpack("<e", struct.pack("<e", d))[0]
        out += [half * (min(15, int(v / d + 8.5)) - 8) for v in block]
    return out


class VerifyTensors(Case):
    def compare(self, a, b, *more, status=1):
        return self.run_ok("verify", a, b, "--level", "tensors", *more, status=status)

    def base(self):
        return write_model(self.dir / "base", hidden=HIDDEN)

    def tuned(self, name, changes):
        extra = {}
        for entry in changes:
            extra.update(entry)
        return write_model(self.dir / name, hidden=HIDDEN, extra=extra)

    def with_lora(self, name, rank, strength, where=ATTENTION):
        values, changes = original(), []
        for i, tensor_name in enumerate(where):
            rows, columns = shapes(hidden=HIDDEN)[tensor_name]
            update = low_rank(100 * rank + 2 * i, rows, columns, rank, strength)
            changes.append(tensor(tensor_name, [v + u for v, u in zip(values[tensor_name], update)]))
        return self.tuned(name, changes)

    def test_a_merged_lora_is_named_with_its_rank(self):
        base = self.base()
        for rank in (1, 4, 8, 16):
            for strength in (5e-4, 1e-2):  # half of an ulp of these weights on the average, and much more
                b = self.with_lora(f"lora{rank}-{strength}", rank, strength)
                result = self.compare(base, b, "--json").json()
                changes = result["summary"]["changes"]
                sentence = f"the changes are of rank {rank} on q_proj, v_proj of layers 0-1: a LoRA of rank {rank} merged in"
                self.assertEqual(changes["sentence"], sentence, strength)
                self.assertEqual([t["name"] for t in result["tensors"]], ATTENTION)
                for told in result["tensors"]:
                    self.assertEqual((told["rank"]["kind"], told["rank"]["rank"]), ("low", rank))
                    self.assertLess(told["rank"]["residual_ulps"], 0.55)
                parts = {part["part"]: part for part in changes["parts"]}
                self.assertEqual(parts["attention"]["layers"], [0, 1])
                self.assertEqual(parts["attention"]["kinds"], ["q_proj", "v_proj"])
                self.assertEqual((parts["attention"]["changed"], parts["attention"]["tensors"]), (4, 8))
                self.assertEqual(parts["mlp"]["changed"], 0)
        text = self.compare(base, b).out
        self.assertIn(sentence, text)
        self.assertIn("attention of all layers (4 of 8 tensors); not ", text)
        self.assertTrue(text.startswith("SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))

    def test_other_changes_beside_a_lora_are_told(self):
        values = original()
        norm = "model.norm.weight"
        extra = {}
        for i, name in enumerate(ATTENTION):
            rows, columns = shapes(hidden=HIDDEN)[name]
            extra.update(tensor(name, [v + u for v, u in zip(values[name], low_rank(i * 2, rows, columns, 8, 5e-3))]))
        extra.update(tensor(norm, [v + 1 for v in values[norm]]))
        b = write_model(self.dir / "b", hidden=HIDDEN, extra=extra)
        sentence = self.compare(self.base(), b, "--json").json()["summary"]["changes"]["sentence"]
        self.assertIn("a LoRA of rank 8 merged in; 1 other tensor changed in another way", sentence)

    def test_a_fine_tune_is_of_full_rank(self):
        b = write_model(self.dir / "tune", update_seed=2, hidden=HIDDEN)
        result = self.compare(self.base(), b, "--json").json()
        self.assertIn("full rank", result["summary"]["changes"]["sentence"])
        kinds = {t["rank"]["kind"] for t in result["tensors"] if len(t["a"]["shape"]) == 2}
        self.assertEqual(kinds, {"full"})
        self.assertNotIn("LoRA", self.compare(self.base(), b).out)

    def test_rounding_again_has_no_rank(self):
        a = write_model(self.dir / "f32", dtype="F32", hidden=HIDDEN)
        result = self.compare(a, self.base(), "--json").json()
        self.assertEqual(result["verdict"], "ROUNDED")
        kinds = {t["rank"]["kind"] for t in result["tensors"] if len(t["a"]["shape"]) == 2}
        self.assertEqual(kinds, {"within_rounding"})
        self.assertIn("no larger than one rounding makes", result["summary"]["changes"]["sentence"])

    def test_token_rows(self):
        name = "model.embed_tokens.weight"
        values = original()[name]
        for row in (5, 37, 38, 39):
            values[row * HIDDEN + row] += 1
        b = self.tuned("tokens", [tensor(name, values)])
        result = self.compare(self.base(), b, "--json").json()
        self.assertEqual(result["tensors"][0]["rows"], {"rows": 40, "changed": 4, "ranges": [[5, 5], [37, 39]], "num_ranges": 2})
        text = self.compare(self.base(), b).out
        self.assertIn("4 of 40 rows of model.embed_tokens.weight changed: 5, 37-39", text)
        self.assertNotIn("LoRA", text)

    def test_added_tokens(self):
        b = write_model(self.dir / "more", hidden=HIDDEN, vocab=43)
        text = self.compare(self.base(), b).out
        self.assertIn("B has 3 rows more of model.embed_tokens.weight", text)

    def test_units_in_the_last_place(self):
        name = ATTENTION[0]
        data = bytearray(bf16(original()[name]))
        for at in range(0, len(data), 2):
            data[at] ^= 1  # of BF16's codes the last bit
        b = self.tuned("ulp", [{name: ("BF16", shapes(hidden=HIDDEN)[name], bytes(data))}])
        result = self.compare(self.base(), b, "--json").json()
        units = result["tensors"][0]["units"]
        self.assertEqual(units, {"encoding": "BF16", "distances": [{"from": 1, "to": 1, "elements": HIDDEN * HIDDEN}],
                                 "sign_changes": 0, "same_once_rounded": 0})
        self.assertEqual(result["summary"]["changes"]["units"]["elements"], HIDDEN * HIDDEN)
        text = self.compare(self.base(), b).out
        self.assertIn("all of the changed elements differ by one unit in the last place (BF16)", text)

    def test_a_dequantised_model_is_noticed(self):
        values = original()
        for grid, dequantise in (("Q8_0", dequantise_q8_0), ("Q4_0", dequantise_q4_0)):
            for pack, dtype in ((bf16, "BF16"), (f32, "F32"), (cli_models.f16, "F16")):
                names = [n for n, shape in shapes(hidden=HIDDEN).items() if len(shape) == 2 and shape[1] % 32 == 0]
                extra = {}
                for name in names:
                    extra.update(tensor(name, dequantise(values[name]), pack, dtype))
                b = write_model(self.dir / (grid + dtype), hidden=HIDDEN, extra=extra)
                grids = self.compare(self.base(), b, "--json").json()["summary"]["grids"]
                self.assertEqual((grids["b"]["looked_at"], grids["b"][grid]), (len(names), len(names)), grid + dtype)
                self.assertEqual(sum(grids["a"].values()), len(names))  # looked at, none on any
        # Also where nothing differs.
        text = self.compare(b, b, status=0).out
        self.assertIn("warning", text)
        self.assertIn("was dequantised", text)
        self.assertIn(f"{len(names)} on that of Q4_0", text)
        self.assertNotIn("warning", self.compare(self.base(), self.base(), status=0).out)

    def test_the_first_difference_is_told_to_the_byte(self):
        name = "model.layers.1.mlp.up_proj.weight"
        values = original()[name]
        values[3 * HIDDEN + 7] += 1
        values[5 * HIDDEN] += 1
        b = self.tuned("one", [tensor(name, values)])
        a = self.base()
        result = self.compare(a, b, "--first-difference", "--json").json()
        self.assertTrue(result["summary"]["stopped_early"])
        (told,) = result["tensors"]
        self.assertEqual((told["name"], told["first_changed"]), (name, 3 * HIDDEN + 7))
        at = {side: told["place"][side]["byte"] for side in "ab"}
        read = {side: pathlib.Path(told["place"][side]["file"]).read_bytes() for side in "ab"}
        self.assertNotEqual(read["a"][at["a"] : at["a"] + 2], read["b"][at["b"] : at["b"] + 2])
        self.assertEqual(read["a"][at["a"] : at["a"] + 2], bf16([original()[name][3 * HIDDEN + 7]]))
        text = self.compare(a, b, "--first-difference").out
        self.assertIn(f"{name}, element {3 * HIDDEN + 7} (row 3, column 7)", text)
        self.assertIn(f"byte {at['b']}", text)

    def test_the_same_at_any_thread_count_and_budget(self):
        base, b = self.base(), self.with_lora("lora", 4, 2e-3)
        told = []
        for more in ((), ("--threads", "1"), ("--threads", "4"), ("--max-memory", budgets.mebibytes(96))):
            result = self.compare(base, b, "--json", *more).json()
            for key in ("memory", "seconds"):
                result.pop(key)
            told.append(result)
        for other in told[1:]:
            self.assertEqual(other, told[0])


if __name__ == "__main__":
    cli_models.main()
