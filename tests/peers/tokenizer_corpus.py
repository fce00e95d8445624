"""Texts for tests that compare tokenizers: many scripts, emoji, control characters, runs of white space, all of it mixed."""

import random

SAMPLES = [
    "", " ", "  ", "\n", "\t", "\r\n", " \n ", "a", " a", "a ", "Hello world", " Hello,  world! ", "I'm you're we'll they've he'd it's can't",
    "I'M YOU'RE 'S 'LL", "it\u017f 'ſ 'S", "don’t", "''''", "0", "10", "123456", "3.14159", "1,000,000.00", "x1y22z333", "½ ² Ⅷ ① ٣", "１２３",
    "café", "cafe\u0301", "ﬁne Straße ǅ", "İstanbul ıI", "Ωμέγα σς ΣΑΣ", "Привет, мир!", "你好，世界。", "日本語テキスト", "한국어 텍스트", "العربية ١٢٣", "עברית",
    "हिन्दी क्षि", "ไทย", "ខ្មែរ", "ქართული", "👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️", "a\u200db\u200cc", "\u00a0x\u2003y\u3000z\u1680\u180e", "\x00\x01\x04\x1b\x7f\x85",
    "<s> </s> <unk> <|endoftext|> [MASK] <extra>", "x<s>y", " <s> ", "▁▁a▁b ▁c", "def f(x):\n    return x + 1\n\n\n", "http://a.b/c?d=e&f=#g",
    "a" * 300, " " * 300, "\n" * 100, "ab" * 200, "é" * 200, "\U0001F600" * 50, "…—–‘’“”«»", "\u0301\u0302 \u0301", "\U00031350\u1c89\U0001e5d0\U00011f50",
    "q\u0307\u0323", "\u1e9b\u0323", "가각힣", "\ufeffx\ufffd\uffff", "ＡＢＣａｂｃ", "①②⑳㌔㍿", "\ufb2c\u0f73", "E\u0301\u0327", "<S> <Mask> [mask]",
]
POOLS = [
    "abcdefghijklmnopqrstuvwxyzABCXYZ", "    \n\t", "0123456789", ".,;:!?'\"()[]{}<>|/\\@#$%^&*-_=+~`", "éèüßñçøåæœŁžšIİıſ", "αβγδεςσΩΑ", "абвгдЖЩЫ",
    "你好世界日本語中文字", "ひらがなカタカナー", "한국어가각힣", "अआइईक्षत्रिी", "عربيةلا١٢", "ไทยภาษา", "\u0300\u0301\u0302\u0323\u0327\u20dd", "👍🏽👨👩🇩🇪❤️🎉\U0001f9d1",
    "\x00\x01\x02\x0b\x0c\x1c\x1f\x7f\x85\xa0\xad", "\u2000\u2003\u2028\u2029\u202f\u205f\u3000\u1680\u180e\u200b\u200c\u200d\u2060\ufeff",
    "½²³¹ⅧⅣ①⑳٣〇", "€£¥©®™§¶†‡•…‰′″⟨⟩∑∏√∞≠", "▁▁▁a ", "ﬁﬂﬀﬆＡａ１㌔㎏ŉǆ", "\U00031350\U0002ebf0\u1c89\u1c8a\U00010d40\U00011bc0\ua7da\U0001e5d0",
]
WORDS = ["the", " the", "I'm", "'ll", " don't", "\n\n", "  ", "<s>", "</s>", "<unk>", "<|im_start|>", "[MASK]", "<extra>", "http://", "12345", "hello", " world", "naïve", "Straße"]


def texts(count, seed):
    """SAMPLES and `count` random texts."""
    rng = random.Random(seed)
    out = list(SAMPLES)
    for _ in range(count):
        parts = []
        pools = rng.sample(POOLS, rng.randint(1, 4))
        for _ in range(rng.randint(1, 30)):
            kind = rng.random()
            if kind < 0.2:
                parts.append(rng.choice(WORDS))
            elif kind < 0.25:
                parts.append(rng.choice(rng.choice(pools)) * rng.randint(2, 20))
            elif kind < 0.28:
                code = rng.randrange(0x110000)
                parts.append("" if 0xD800 <= code < 0xE000 else chr(code))
            else:
                pool = rng.choice(pools)
                parts.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 6))))
        out.append("".join(parts))
    return out


def training():
    """Lines to train small tokenizers with, in many scripts."""
    rng = random.Random(7)
    lines = [text for text in texts(1500, 11) if text]
    common = "the of and to in a is that for it as was with be by on not he i this are or his from at which but have an had they you were".split()
    lines += [" ".join(rng.choice(common) for _ in range(30)) + "." for _ in range(400)]
    return lines
