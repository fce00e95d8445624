"""verify --level behaviour with models behind servers: honest ones, other models, and servers that lie, stall and break off."""

import functools
import http.server
import json
import math
import operator
import os
import random
import threading
import time

import json_schemas
from cli_forward_test import byte_tokenizer
from cli_models import HIDDEN, LAYERS, Case, f32, main, sluice, write_model

VOCAB = 256
NONCE = "00112233445566778899aabbccddeeff"
SECRET = "sk-test-0123456789abcdef"
BYTES = [bytes([byte]) for byte in range(VOCAB)]
TERMS = ["--level", "behaviour", "--gamma", "0.1", "--challenges", "90", "--challenge-tokens", "6", "--nonce", NONCE]


def head_of(seed, blend=0.0, other=0):
    """A head that makes sharp distributions; `blend` of another's."""
    first, second = random.Random(seed), random.Random(other)
    return [(1 - blend) * first.gauss(0, 1) + blend * second.gauss(0, 1) for _ in range(VOCAB * HIDDEN)]


def normals(seed, count):
    generator = random.Random(seed)
    return [generator.gauss(0, 1) for _ in range(count)]


EMBEDDING = normals(5, VOCAB * HIDDEN)


@functools.cache
def table(seed, blend=0.0, other=0):
    """Of a model whose layers add nothing: the distribution behind each token."""
    head = head_of(seed, blend, other)
    rows = []
    for token in range(VOCAB):
        e = EMBEDDING[token * HIDDEN : (token + 1) * HIDDEN]
        scale = 1 / math.sqrt(sum(x * x for x in e) / HIDDEN + 1e-5)
        logits = [scale * sum(map(operator.mul, e, head[i * HIDDEN : (i + 1) * HIDDEN])) for i in range(VOCAB)]
        top = max(logits)
        exps = [math.exp(x - top) for x in logits]
        total = sum(exps)
        rows.append([x / total for x in exps])
    return rows


def write_shallow(folder, seed=1, **how):
    """write_model's Llama with layers that add nothing, so that a server of a few lines computes the same."""
    extra = {"model.embed_tokens.weight": ("F32", [VOCAB, HIDDEN], f32(EMBEDDING)),
             "lm_head.weight": ("F32", [VOCAB, HIDDEN], f32(head_of(seed, **how))),
             "model.norm.weight": ("F32", [HIDDEN], f32([1.0] * HIDDEN))}
    for layer in range(LAYERS):
        for name, columns in (("self_attn.o_proj", HIDDEN), ("mlp.down_proj", 48)):
            extra[f"model.layers.{layer}.{name}.weight"] = ("F32", [HIDDEN, columns], f32([0.0] * (HIDDEN * columns)))
    write_model(folder, vocab=VOCAB, dtype="F32", extra=extra)
    (folder / "tokenizer.json").write_text(byte_tokenizer())
    return folder


class Server:
    """An OpenAI-compatible server in the test. echo, ids: what it knows; lie(answer, n): the n-th answer's last word; wire(handler, n): true
    where it has dealt with the request itself."""

    def __init__(self, rows, echo=True, ids=True, max_top=20, lie=None, wire=None, prompt_ids=True):
        self.rows, self.echo, self.ids, self.max_top, self.lie, self.wire, self.prompt_ids = rows, echo, ids, max_top, lie, wire, prompt_ids
        self.requests, self.keys, self.alive = 0, set(), True
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests += 1
                server.keys.add(self.headers.get("Authorization"))
                if server.wire and server.wire(self, server.requests):
                    return
                status, answer = server.answer(json.loads(body))
                if status == 200 and server.lie:
                    server.lie(answer, server.requests)
                self.send(status, json.dumps(answer).encode())

            def send(self, status, data, length=None, kind="application/json", more=()):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data) if length is None else length))
                for name, value in more:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.ref = f"api+http://127.0.0.1:{self.http.server_port}/v1#tiny"

    def close(self):
        self.alive = False
        self.http.shutdown()
        self.http.server_close()

    def name(self, token, by_ids):
        return f"token_id:{token}" if by_ids else BYTES[token].decode("utf-8", errors="ignore")

    def answer(self, asked):
        echo, by_ids, top = asked.get("echo", False), asked.get("return_tokens_as_token_ids", False), asked["logprobs"]
        tokens = asked["prompt"]
        if isinstance(tokens, str):
            tokens = list(tokens.encode())
        elif not self.prompt_ids:
            return 400, {"error": "a prompt is a text"}
        if (echo and not self.echo) or (by_ids and not self.ids) or top > self.max_top:
            return 400, {"error": "not here"}
        row = self.rows[tokens[-1]]
        everything = tokens + [row.index(max(row))]
        names, values, lists = [], [], []
        for i in range(0 if echo else len(tokens), len(everything)):
            names.append(self.name(everything[i], by_ids))
            if i == 0:
                values.append(None)
                lists.append(None)
                continue
            p = self.rows[everything[i - 1]]
            best = sorted(range(VOCAB), key=lambda token: -p[token])[:top]
            values.append(math.log(p[everything[i]]))
            lists.append({self.name(token, by_ids): math.log(p[token]) for token in [*best, everything[i]]})
        return 200, {"model": "tiny", "usage": {"prompt_tokens": len(tokens)},
                     "choices": [{"index": 0, "text": "", "logprobs": {"tokens": names, "token_logprobs": values, "top_logprobs": lists}}]}


class Api(Case):
    validator = json_schemas.load("verify")

    def setUp(self):
        super().setUp()
        self.base = write_shallow(self.dir / "base")
        os.environ["SLUICE_API_KEY"] = SECRET
        self.addCleanup(os.environ.pop, "SLUICE_API_KEY", None)

    def serve(self, *arguments, **how):
        server = Server(*arguments, **how)
        self.addCleanup(server.close)
        return server

    def verify(self, a, b, *more, status=0, verdict=None, terms=TERMS):
        result = sluice("verify", a, b, *terms, "--quiet", "--json", *more)
        self.assertNotIn(SECRET, result.out + result.err)
        self.assertEqual(result.status, status, result)
        told = result.json()
        self.assertEqual(json_schemas.complaints(self.validator, told), [], result)
        if verdict:
            self.assertEqual(told["verdict"], verdict, result)
        return told

    def test_the_same_model_behind_each_kind_of_server_is_the_same(self):
        for echo in (True, False):
            server = self.serve(table(1), echo=echo)
            told = self.verify(self.base, server.ref, verdict="SAME_BEHAVIOUR")
            api = told["api"]
            self.assertEqual((api["b"]["shape"], api["b"]["top"]), ("echo" if echo else "next", 20))
            self.assertLess(api["mean"]["lower"], 1e-4, "against itself")
            self.assertTrue(api["can_say_same"])
            self.assertLess(api["floor"], 0.1)
            self.assertLess(api["scored"], 90, "it stops when it knows")
            self.assertEqual(api["scored"], api["decided_at"])
            self.assertGreaterEqual(api["repeats"], 2)
            self.assertEqual(server.keys, {f"Bearer {SECRET}"})
            self.assertEqual(told["summary"]["a"]["ref"], str(self.base))
            self.verify(server.ref, self.base, verdict="SAME_BEHAVIOUR")

    def test_another_model_is_different_whatever_the_floor(self):
        for top in (20, 2):
            server = self.serve(table(1, 0.5, 9), max_top=top)
            told = self.verify(self.base, server.ref, "--api-top", top, status=1, verdict="DIFFERENT_BEHAVIOUR")
            self.assertGreater(told["api"]["mean"]["lower"], 0.1)

    def test_lists_that_are_too_short_can_never_say_same(self):
        server = self.serve(table(1), max_top=1)
        # The floor is of the five positions of the probe, and a port is part of what draws them: of a million such means none is below 0.01.
        terms = [{"0.1": "0.01"}.get(term, term) for term in TERMS]
        told = self.verify(self.base, server.ref, status=5, verdict="UNDECIDED", terms=terms)
        self.assertGreater(told["api"]["floor"], 0.01)
        self.assertFalse(told["api"]["can_say_same"])
        self.assertLess(told["api"]["mean"]["lower"], 1e-4)
        self.assertGreater(told["api"]["mean"]["upper"], 0.1)
        text = sluice("verify", self.base, server.ref, *terms, "--quiet").out
        self.assertIn("SAME cannot be said", text)

    def test_tokens_that_look_alike_are_no_tokens(self):
        told = self.verify(self.base, self.serve(table(1), ids=False).ref, status=5, verdict="UNDECIDED")
        self.assertGreater(told["api"]["mean"]["upper"], 0.2, "half of the vocabulary are halves of characters, which look like nothing")
        self.assertLess(told["api"]["mean"]["lower"], 1e-4)
        self.verify(self.base, self.serve(table(1, 0.5, 9), ids=False).ref, status=1, verdict="DIFFERENT_BEHAVIOUR")

    def test_scored_tokens_say_more_than_short_lists(self):
        server = self.serve(table(1), max_top=1)
        told = self.verify(self.base, server.ref, "--api-ids", 4, "--api-positions", 2, verdict="SAME_BEHAVIOUR")
        self.assertEqual((told["api"]["score"], told["api"]["ids"], told["api"]["positions"]), ("coarse", 4, 2))
        self.assertIn("from below only", told["does_not_prove"])
        self.assertEqual(told["api"]["mean"]["lower"], told["api"]["mean"]["upper"])
        self.verify(self.base, self.serve(table(1, 0.5, 9), max_top=1).ref, "--api-ids", 4, status=1, verdict="DIFFERENT_BEHAVIOUR")
        late = self.serve(table(1), echo=False)
        self.assertIn("echo", sluice("verify", self.base, late.ref, *TERMS, "--api-ids", "4").err)

    def test_two_servers(self):
        one, same, other = self.serve(table(1)), self.serve(table(1), echo=False), self.serve(table(1, 0.5, 9))
        self.run_fails(2, ["--api-tokenizer"], "verify", one.ref, same.ref, *TERMS)
        told = self.verify(one.ref, same.ref, "--api-tokenizer", self.base, verdict="SAME_BEHAVIOUR")
        self.assertEqual(told["bytes_read"], 0)
        self.verify(one.ref, other.ref, "--api-tokenizer", self.base, status=1, verdict="DIFFERENT_BEHAVIOUR")
        self.assertEqual(same.keys, {None}, "a key is for one server, unless both are one")
        self.assertEqual(one.keys, {f"Bearer {SECRET}"})

    def test_prompts_as_text(self):
        prompts = self.dir / "prompts.txt"
        prompts.write_text("".join(f"number {i} of many lines\n" for i in range(80)))
        server = self.serve(table(1), prompt_ids=False)
        terms = ["--level", "behaviour", "--gamma", "0.1", "--nonce", NONCE, "--prompts", prompts, "--quiet", "--json"]
        result = sluice("verify", self.base, server.ref, *terms)
        self.assertEqual(result.status, 0, result)
        told = result.json()
        self.assertEqual((told["verdict"], told["api"]["population"], told["api"]["b"]["token_ids"]), ("SAME_BEHAVIOUR", 80, False))
        told = self.verify(self.base, server.ref, status=3, verdict="INVALID")
        self.assertIn("cannot be sent as text", told["api"]["invalid"])

    def test_the_plan_comes_first_and_asks_no_challenge(self):
        server = self.serve(table(1), echo=False)
        result = self.run_ok("verify", self.base, server.ref, *TERMS, "--dry-run")
        for words in ("attainable floor", "450 requests", "prompt tokens"):
            self.assertIn(words, result.out)
        self.assertLess(server.requests, 20)
        plan = self.run_ok("verify", self.base, server.ref, *TERMS, "--dry-run", "--json").json()
        self.assertEqual(json_schemas.complaints(self.validator, plan), [], plan)
        self.assertEqual(plan["plan"]["api"]["b"]["predicted"]["requests"], 450)

    def test_recorded_answers_give_the_verdict_again(self):
        server, prefix = self.serve(table(1)), self.dir / "kept"
        first = self.verify(self.base, server.ref, "--api-record", prefix, verdict="SAME_BEHAVIOUR")
        record = self.dir / "kept.b.jsonl"
        self.assertNotIn(SECRET, record.read_text())
        server.close()
        again = self.verify(self.base, server.ref, "--api-replay", prefix, verdict="SAME_BEHAVIOUR")
        for key in ("mean", "interval", "log_capital", "scored", "decided_at", "repeats", "commitment", "floor"):
            self.assertEqual(again["api"][key], first["api"][key], key)
        self.assertTrue(again["api"]["b"]["from_record"])
        # Of another run, changed, or cut off.
        other = write_shallow(self.dir / "other", blend=0.5, other=9)
        told = self.verify(other, server.ref, "--api-replay", prefix, status=3, verdict="INVALID")
        self.assertIn("another request", told["api"]["invalid"], "the other model was decided on earlier, and would have asked for other things")
        told = self.verify(self.base, server.ref, "--api-replay", prefix, "--api-positions", 3, status=3, verdict="INVALID")
        self.assertIn("another run", told["api"]["invalid"])
        text = record.read_text()
        for changed in (text.replace("0.1", "0.2", 1), text[: len(text) // 2], ""):
            record.write_text(changed)
            self.run_fails(3, ["kept.b.jsonl"], "verify", self.base, server.ref, *TERMS, "--api-replay", prefix)

    def test_whatever_a_server_does_wrong_is_invalid(self):
        def of_logprobs(change):
            return lambda answer, n: change(answer["choices"][0]["logprobs"]) if n > 12 else None

        def late(change):
            return lambda answer, n: change(answer) if n > 12 else None

        def each_list(change):
            return of_logprobs(lambda logprobs: [change(one) for one in logprobs["top_logprobs"] if one])

        def first_of(one, value):
            one[next(iter(one))] = value

        def drop(one):
            one.pop(next(iter(one)))

        def raw(data, status=200, **how):
            def wire(handler, n):
                if n <= 12:
                    return False
                handler.send(status, data, **how)
                handler.close_connection = True
                return True
            return wire

        def stall(handler, n):
            if n <= 12:
                return False
            time.sleep(4)
            return True

        def huge(handler, n):
            if n <= 12:
                return False
            try:
                handler.send(200, b" " * (80 << 20))
            except OSError:
                pass
            return True

        lies = {
            "another model": (late(lambda answer: answer.update(model="large")), None, "another model answers"),
            "the key as its name": (late(lambda answer: answer.update(model="tiny-" + SECRET)), None, "than before"),
            "other tokens": (of_logprobs(lambda x: x["tokens"].__setitem__(1, "token_id:999")), None, "another token"),
            "more tokens": (late(lambda answer: answer.update(usage={"prompt_tokens": 7})), None, "saw 7 tokens where 6"),
            "above 1": (each_list(lambda one: first_of(one, 0.7)), None, "log-probability of 0.7"),
            "together above 1": (each_list(lambda one: [one.__setitem__(key, -0.01) for key in one]), None, ""),
            "not a number": (each_list(lambda one: first_of(one, float("nan"))), None, "no JSON"),
            "no numbers": (each_list(lambda one: first_of(one, "-1")), None, "no number"),
            "shorter lists": (each_list(lambda one: (drop(one), drop(one))), None, "where 20 were asked for"),
            "longer lists": (each_list(lambda one: [one.setdefault(f"token_id:{i}", -30.0) for i in range(100)]), None, "where 20 were asked for"),
            "no lists": (of_logprobs(lambda x: x.update(top_logprobs=None)), None, "no top_logprobs"),
            "no choices": (late(lambda answer: answer.update(choices=[])), None, "no choices"),
            "garbage": (None, raw(b"<html>maintenance</html>", kind="text/html"), "no JSON"),
            "nothing": (None, raw(b""), "no JSON"),
            "a redirect": (None, raw(b"", status=307, more=[("Location", "http://127.0.0.1:9/v1/completions")]), "points elsewhere"),
            "a refusal that shows the key": (None, raw(SECRET.encode(), status=403), "403"),
            "breaks off": (None, raw(b'{"model"', length=5000), "after 5 tries"),
            "a stall": (None, stall, "no answer in time"),
            "no end": (None, huge, "larger than"),
        }
        for what, (lie, wire, words) in lies.items():
            with self.subTest(what):
                server = self.serve(table(1), lie=lie, wire=wire)
                told = self.verify(self.base, server.ref, "--api-timeout", 1, status=3, verdict="INVALID")
                self.assertIn(words, told["api"]["invalid"])
                self.assertIsNone(told["api"]["mean"])
                self.assertEqual(told["proves"], "nothing: the comparison failed")

    def test_answers_that_change_when_asked_again_are_invalid(self):
        sides = [table(1), table(1, 0.5, 9)]
        server = self.serve(table(1))

        def lie(answer, n):
            server.rows = sides[n % 2] if n > 8 else sides[0]

        server.lie = lie
        told = self.verify(self.base, server.ref, status=3, verdict="INVALID")
        self.assertIn("second time", told["api"]["invalid"])

    def test_a_server_that_is_not_there_or_tells_nothing(self):
        server = self.serve(table(1))
        server.close()
        told = self.verify(self.base, server.ref, status=3, verdict="INVALID")
        self.assertIn("after 5 tries", told["api"]["invalid"])
        mute = self.serve(table(1), lie=lambda answer, n: answer["choices"][0].update(logprobs=None))
        self.run_fails(2, ["without log-probabilities"], "verify", self.base, mute.ref, *TERMS)

    def test_busy_servers_are_tried_again(self):
        def busy(handler, n):
            if n % 9 != 8:
                return False
            handler.send(503, b"{}", more=[("Retry-After", "0")])
            return True

        server = self.serve(table(1), wire=busy)
        told = self.verify(self.base, server.ref, verdict="SAME_BEHAVIOUR")
        self.assertGreater(told["api"]["b"]["retries"], 3)

    def test_bad_requests(self):
        server = self.serve(table(1))
        for words, arguments in (
            (["needs the name"], [self.base, "api+https://host/v1", *TERMS]),
            (["take api+https"], [self.base, "api+http://models.example/v1#m", *TERMS]),
            (["user or password"], [self.base, "api+https://me:sesame@host/v1#m", *TERMS]),
            (["--api-record"], [self.base, server.ref, *TERMS, "--evidence", self.dir / "e"]),
            (["--api-top", "goes with"], [self.base, self.base, *TERMS, "--api-top", "5"]),
            (["--api-timeout"], [self.base, server.ref, *TERMS, "--api-timeout", "0"]),
            (["one at a time"], [self.base, server.ref, *TERMS, "--api-record", "x", "--api-replay", "y"]),
            (["--challenge-tokens"], [self.base, server.ref, *TERMS[:-4], "--challenge-tokens", "2"]),
            (["--level behaviour"], [self.base, server.ref]),
            (["--level behaviour"], [self.base, server.ref, "--level", "tensors"]),
        ):
            self.run_fails(2, words, "verify", *arguments)
        self.assertEqual(server.requests, 0)
        self.run_fails(2, ["server"], "inspect", server.ref)


if __name__ == "__main__":
    main()
