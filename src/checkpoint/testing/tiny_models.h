// Small checkpoints on disk for tests of any room. All functions CHECK that the disk takes what they write.
//
//   tests::TempDir dir;                                            // removed at the end of the test
//   tests::WriteSafetensors(dir / "x.safetensors", {tests::FloatTensor("w", "BF16", {2, 3}, {1, 2, 3, 4, 5, 6}),
//                                                   {"ids", "I64", {1}, std::vector<uint8_t>(8)}});
//   std::string base = tests::MakeTinyLlama(dir / "base", {.seed = 1});
//   std::string tune = tests::MakeTinyLlama(dir / "tune", {.seed = 1, .update_seed = 7, .shards = 3});
//   auto model = checkpoint::OpenCheckpoint(tune, {});
//
// The bytes depend on the options alone, not on the shards, so base in 1 and in 4 shards is one model. What is written
// here is written by code of its own, not by the writers under test.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::tests {

// A folder of its own under the system's temporary one, removed with all that is in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

struct TestTensor {
  std::string name, dtype;
  std::vector<uint64_t> shape;
  std::vector<uint8_t> bytes;  // little-endian, as stored
};

// `values` rounded to dtype "F32", "BF16" or "F16", one for each element.
TestTensor FloatTensor(std::string name, std::string dtype, std::vector<uint64_t> shape,
                       const std::vector<float>& values);
// Seeded values of about a normal distribution times `scale`; they depend on name, seed and shape, not on the dtype.
TestTensor RandomTensor(std::string name, std::string dtype, std::vector<uint64_t> shape, uint64_t seed,
                        float scale = 0.02f);

// One file, tensors in the order given. Nothing is checked: wrong sizes make a wrong file.
void WriteSafetensors(const std::string& path, const std::vector<TestTensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});
// A file of this very header and these bytes behind it, for what is malformed on purpose.
void WriteRawSafetensors(const std::string& path, std::string_view header, std::string_view data = {});
// model-0000i-of-0000n.safetensors and model.safetensors.index.json in `dir`; tensors are dealt in runs. One shard:
// model.safetensors.
void WriteShards(const std::string& dir, const std::vector<TestTensor>& tensors, int shards);

void WriteText(const std::string& path, std::string_view text);
std::string ReadText(const std::string& path);

struct TinyLlama {
  uint64_t layers = 2, hidden = 64, heads = 4, kv_heads = 2, ffn = 160, vocab = 96;
  uint64_t seed = 1;
  uint64_t update_seed = 0;     // not 0: a fine-tune of `seed`, every weight moved by ...
  float update_scale = 0.002f;  // ... a seeded normal update of this size
  std::string dtype = "BF16";   // or "F16", "F32"
  int shards = 1;
  bool tied = false;      // no lm_head.weight, tie_word_embeddings true
  bool tokenizer = true;  // tokenizer.json, tokenizer_config.json, generation_config.json: small, not usable
};

// The tensors in Hugging Face's order (embedding, layers, norm, head).
std::vector<TestTensor> TinyLlamaTensors(const TinyLlama& options);
std::string TinyLlamaConfig(const TinyLlama& options);  // config.json, transformers 4 keys
// Makes the folder and writes all of it. Returns dir.
std::string MakeTinyLlama(const std::string& dir, const TinyLlama& options = {});

}  // namespace sluice::tests
