"""Makes spm-*.model and spm-*.json beside this file: small models of PyPI's sentencepiece (0.2.3) with texts and the ids that it gives for them.

    pip install sentencepiece==0.2.3 && python make_sentencepiece.py
"""

import io
import json
import pathlib
import sys

import sentencepiece

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "peers"))
import tokenizer_corpus  # noqa: E402

CASES = {
    "unigram": dict(model_type="unigram", normalization_rule_name="nmt_nfkc"),
    "bpe": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, user_defined_symbols=["<extra>"]),
}

lines = [line.replace("\0", "") for line in tokenizer_corpus.training()]
for name, options in CASES.items():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, vocab_size=1400, character_coverage=0.98, minloglevel=2, **options)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    cases = []
    for text in tokenizer_corpus.texts(200, 9):
        case = {"text": text, "ids": processor.encode(text)}
        if processor.unk_id() not in case["ids"]:
            case["decoded"] = processor.decode(case["ids"])
        cases.append(case)
    (HERE / f"spm-{name}.model").write_bytes(model.getvalue())
    (HERE / f"spm-{name}.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n", encoding="utf-8")
