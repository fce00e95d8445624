"""Scores of `verify --level behaviour` beside total variation summed here, in f64, from what `sluice logits` writes of both models in full."""

import json
import math
import struct

from behaviour_challenges import challenge_of
from cli_behaviour_test import KEY, VOCAB, Behaviour
from cli_forward_test import write_ids
from cli_models import main, read_safetensors, write_safetensors

# What src/kernels/logit_distance.h allows between its sums and the formula.
TOLERANCE = 2e-7 + 1.2e-7 * math.log(VOCAB)


def softmax(logits):
    most = max(logits)
    weights = [math.exp(x - most) for x in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def shifted(tokenizer, by):
    """A tokenizer of bytes in which each has another number."""
    value = json.loads(tokenizer)
    vocabulary = value["model"]["vocab"]
    for token in vocabulary:
        vocabulary[token] = (vocabulary[token] + by) % VOCAB
    return json.dumps(value)


class Scores(Behaviour):
    COUNT, TOKENS = 6, 21

    def logits(self, model, challenges):
        """[challenge][position] lists of f32."""
        ids, out = write_ids(self.dir / "ids.safetensors", challenges), self.dir / "logits.safetensors"
        self.run_ok("logits", model, "--ids", ids, "-o", out, "--force")
        _, shape, data = read_safetensors(out)["logits"]
        self.assertEqual(shape, [self.COUNT, self.TOKENS, VOCAB])
        rows = list(struct.iter_unpack(f"<{VOCAB}f", data))
        return [rows[i * self.TOKENS : (i + 1) * self.TOKENS] for i in range(self.COUNT)]

    def scores(self, a, b):
        behaviour = self.told(a, b, "--challenges", self.COUNT, "--challenge-tokens", self.TOKENS, "--nonce", KEY, status=None)["behaviour"]
        commitment = behaviour["commitment"]
        return behaviour, [challenge_of(commitment, i, range(VOCAB)) for i in range(self.COUNT)]

    def expect(self, scores, of_a, of_b, id_in_b=lambda i: i):
        expected = []
        for a, b in zip(of_a, of_b):
            apart = []
            for x, y in zip(a, b):
                p, q = softmax(x), softmax(y)
                apart.append(math.fsum(abs(p[i] - q[id_in_b(i)]) for i in range(VOCAB)) / 2)
            expected.append(math.fsum(apart) / len(apart))
        self.assertEqual(len(scores), self.COUNT)
        for score, value in zip(scores, expected):
            self.assertAlmostEqual(score, value, delta=TOLERANCE)
        self.assertGreater(min(expected), 100 * TOLERANCE)

    def test_they_are_the_formula_on_all_logits(self):
        tune = self.model("tune", update_seed=7)
        behaviour, challenges = self.scores(self.base, tune)
        self.expect(behaviour["scores"], self.logits(self.base, challenges), self.logits(tune, challenges))

    def test_tokens_that_are_numbered_otherwise_are_matched(self):
        """B's rows stand where its tokenizer says, so that each model is asked in its own numbers."""
        by = 77
        tune = self.model("tune", tokenizer=shifted(self.tokenizer_text(), by), update_seed=7)
        behaviour, challenges = self.scores(self.base, tune)
        self.assertEqual(behaviour["alignment"]["by"], "by_bytes")
        in_b = [[(i + by) % VOCAB for i in challenge] for challenge in challenges]
        self.expect(behaviour["scores"], self.logits(self.base, challenges), self.logits(tune, in_b), lambda i: (i + by) % VOCAB)

    def test_nothing_where_only_numbers_are_other(self):
        by = 13

        def renumber(tensors):
            for name in ("lm_head.weight", "model.embed_tokens.weight"):
                dtype, shape, data = tensors[name]
                row = len(data) // VOCAB
                tensors[name] = (dtype, shape, data[-by * row :] + data[: -by * row])

        other = self.edit(self.model("other", tokenizer=shifted(self.tokenizer_text(), by)), renumber)
        behaviour, _ = self.scores(self.base, other)
        self.assertEqual(behaviour["alignment"]["by"], "by_bytes")
        self.assertEqual(behaviour["scores"], [0.0] * self.COUNT)

    def tokenizer_text(self):
        return (self.base / "tokenizer.json").read_text()


if __name__ == "__main__":
    main()
