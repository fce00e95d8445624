#!/usr/bin/env python3
"""make_architectures.py LLAMA_CPP: GGUF files of the tiny models of ../inference/models, by llama.cpp's own converter.

LLAMA_CPP is llama.cpp's source as it lies in llama-cpp-python's sdist (vendor/llama.cpp; 0.3.36 made the files here). Needs torch and
transformers; 2.15 and 4.57.6 were there. Matrices in bfloat16, as they are stored there; no tokenizer: the models have none.
"""

import pathlib
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "inference" / "models"
NAMES = ["llama_bias", "llama_rope_llama3", "llama_rope_yarn", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "phi3_longrope"]


def main():
    llama_cpp = pathlib.Path(sys.argv[1])
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import convert_hf_to_gguf
    import conversion
    from conversion.base import ModelBase
    conversion.load_all_models()
    for kinds in ModelBase._model_classes.values():
        for kind in kinds.values():
            kind.set_vocab = lambda self: None
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            # The release of transformers that wrote config.v4.json is the converter's.
            shutil.copy(MODELS / name / "model.safetensors", folder)
            shutil.copy(MODELS / name / "config.v4.json", pathlib.Path(folder) / "config.json")
            if name == "gemma3_text":  # the converter counts tokens here, to cut the embedding
                pathlib.Path(folder, "tokenizer.json").write_text('{"model": {"vocab": {%s}}, "added_tokens": []}' % ", ".join(
                    f'"{i}": {i}' for i in range(160)))
            sys.argv = ["convert_hf_to_gguf.py", folder, "--outtype", "bf16", "--outfile", str(HERE / f"{name}.gguf")]
            convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
