#include "checkpoint/testing/tiny_models.h"

#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/convert.h"

namespace sluice::tests {
namespace {

// splitmix64, public domain (Vigna): enough for test data.
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// A sum of four uniforms: variance 1/3, so times sqrt(3) it has variance 1.
float NextNormal(uint64_t* state) {
  const uint64_t bits = NextRandom(state);
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>((bits >> (16 * i)) & 0xffff) / 65536.0f - 0.5f;
  return sum * 1.7320508f;
}

uint64_t SeedOf(std::string_view name, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash ^ (seed * 0x9e3779b97f4a7c15u);
}

uint64_t Product(const std::vector<uint64_t>& shape) {
  uint64_t product = 1;
  for (const uint64_t dim : shape) product *= dim;
  return product;
}

std::vector<float> RandomValues(const std::string& name, uint64_t count, uint64_t seed, float scale) {
  uint64_t state = SeedOf(name, seed);
  std::vector<float> values(count);
  for (float& value : values) value = NextNormal(&state) * scale;
  return values;
}

std::string Header(const std::vector<TestTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) header += fmt::format("\"{}\":\"{}\",", key, value);
    header.back() = '}';
    header += ',';
  }
  uint64_t begin = 0;
  for (const TestTensor& tensor : tensors) {
    const uint64_t end = begin + tensor.bytes.size();
    header += fmt::format("\"{}\":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},", tensor.name,
                          tensor.dtype, fmt::join(tensor.shape, ","), begin, end);
    begin = end;
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  while (header.size() % 8 != 0) header += ' ';
  return header;
}

}  // namespace

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "sluice_test_XXXXXX").string();
  SLUICE_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

TestTensor FloatTensor(std::string name, std::string dtype, std::vector<uint64_t> shape,
                       const std::vector<float>& values) {
  SLUICE_CHECK(values.size() == Product(shape));
  TestTensor tensor{std::move(name), std::move(dtype), std::move(shape), {}};
  if (tensor.dtype == "F32") {
    tensor.bytes.resize(values.size() * 4);
    if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
    return tensor;
  }
  SLUICE_CHECK(tensor.dtype == "BF16" || tensor.dtype == "F16");
  for (const float value : values) {
    const uint16_t bits =
        tensor.dtype == "BF16" ? kernels::reference::F32ToBf16(value) : kernels::reference::F32ToF16(value);
    tensor.bytes.push_back(static_cast<uint8_t>(bits & 0xff));
    tensor.bytes.push_back(static_cast<uint8_t>(bits >> 8));
  }
  return tensor;
}

TestTensor RandomTensor(std::string name, std::string dtype, std::vector<uint64_t> shape, uint64_t seed, float scale) {
  const std::vector<float> values = RandomValues(name, Product(shape), seed, scale);
  return FloatTensor(std::move(name), std::move(dtype), std::move(shape), values);
}

void WriteRawSafetensors(const std::string& path, std::string_view header, std::string_view data) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>((uint64_t{header.size()} >> (8 * i)) & 0xff);
  text += header;
  text += data;
  WriteText(path, text);
}

void WriteSafetensors(const std::string& path, const std::vector<TestTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string data;
  for (const TestTensor& tensor : tensors) data.append(tensor.bytes.begin(), tensor.bytes.end());
  WriteRawSafetensors(path, Header(tensors, metadata), data);
}

void WriteShards(const std::string& dir, const std::vector<TestTensor>& tensors, int shards) {
  SLUICE_CHECK(shards >= 1);
  std::filesystem::create_directories(dir);
  if (shards == 1) return WriteSafetensors(dir + "/model.safetensors", tensors, {{"format", "pt"}});
  std::string map;
  uint64_t total_size = 0;
  for (int shard = 0; shard < shards; ++shard) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
    std::vector<TestTensor> part;
    for (size_t i = tensors.size() * shard / shards; i < tensors.size() * (shard + 1) / shards; ++i) {
      part.push_back(tensors[i]);
      total_size += tensors[i].bytes.size();
      map += fmt::format("{}    \"{}\": \"{}\"", map.empty() ? "" : ",\n", tensors[i].name, file);
    }
    WriteSafetensors(dir + "/" + file, part, {{"format", "pt"}});
  }
  WriteText(dir + "/model.safetensors.index.json",
            fmt::format("{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n  \"weight_map\": {{\n{}\n  }}\n}}\n",
                        total_size, map));
}

void WriteText(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  SLUICE_CHECK(file.good());
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  SLUICE_CHECK(file.good());
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

std::vector<TestTensor> TinyLlamaTensors(const TinyLlama& o) {
  std::vector<TestTensor> tensors;
  const auto add = [&](std::string name, std::vector<uint64_t> shape) {
    const uint64_t count = Product(shape);
    std::vector<float> values = RandomValues(name, count, o.seed, 0.02f);
    if (shape.size() == 1) {
      for (float& value : values) value += 1.0f;  // a norm
    }
    if (o.update_seed != 0) {
      // A fine-tune moves what its base has stored, not what the base was rounded from.
      values = [&] {
        std::vector<float> stored(count);
        const TestTensor rounded = FloatTensor(name, o.dtype, shape, values);
        if (o.dtype == "F32") return values;
        for (uint64_t i = 0; i < count; ++i) {
          const auto bits = static_cast<uint16_t>(rounded.bytes[2 * i] | (rounded.bytes[2 * i + 1] << 8));
          stored[i] = o.dtype == "BF16" ? kernels::reference::Bf16ToF32(bits) : kernels::reference::F16ToF32(bits);
        }
        return stored;
      }();
      const std::vector<float> update = RandomValues(name + " update", count, o.update_seed, o.update_scale);
      for (uint64_t i = 0; i < count; ++i) values[i] += update[i];
    }
    tensors.push_back(FloatTensor(std::move(name), o.dtype, std::move(shape), values));
  };
  const uint64_t kv = o.hidden / o.heads * o.kv_heads;
  add("model.embed_tokens.weight", {o.vocab, o.hidden});
  for (uint64_t layer = 0; layer < o.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    add(prefix + "self_attn.q_proj.weight", {o.hidden, o.hidden});
    add(prefix + "self_attn.k_proj.weight", {kv, o.hidden});
    add(prefix + "self_attn.v_proj.weight", {kv, o.hidden});
    add(prefix + "self_attn.o_proj.weight", {o.hidden, o.hidden});
    add(prefix + "mlp.gate_proj.weight", {o.ffn, o.hidden});
    add(prefix + "mlp.up_proj.weight", {o.ffn, o.hidden});
    add(prefix + "mlp.down_proj.weight", {o.hidden, o.ffn});
    add(prefix + "input_layernorm.weight", {o.hidden});
    add(prefix + "post_attention_layernorm.weight", {o.hidden});
  }
  add("model.norm.weight", {o.hidden});
  if (!o.tied) add("lm_head.weight", {o.vocab, o.hidden});
  return tensors;
}

std::string TinyLlamaConfig(const TinyLlama& o) {
  const std::string_view dtype = o.dtype == "F32" ? "float32" : o.dtype == "F16" ? "float16" : "bfloat16";
  return fmt::format(R"({{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "bos_token_id": 1,
  "eos_token_id": 2,
  "hidden_act": "silu",
  "hidden_size": {},
  "initializer_range": 0.02,
  "intermediate_size": {},
  "max_position_embeddings": 2048,
  "model_type": "llama",
  "num_attention_heads": {},
  "num_hidden_layers": {},
  "num_key_value_heads": {},
  "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0,
  "tie_word_embeddings": {},
  "torch_dtype": "{}",
  "transformers_version": "4.44.0",
  "use_cache": true,
  "vocab_size": {}
}}
)",
                     o.hidden, o.ffn, o.heads, o.layers, o.kv_heads, o.tied, dtype, o.vocab);
}

std::string MakeTinyLlama(const std::string& dir, const TinyLlama& options) {
  WriteShards(dir, TinyLlamaTensors(options), options.shards);
  WriteText(dir + "/config.json", TinyLlamaConfig(options));
  if (options.tokenizer) {
    WriteText(dir + "/tokenizer.json",
              "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}\n");
    WriteText(dir + "/tokenizer_config.json", "{\"tokenizer_class\":\"LlamaTokenizer\"}\n");
    WriteText(dir + "/generation_config.json", "{\"bos_token_id\":1,\"eos_token_id\":2}\n");
  }
  return dir;
}

}  // namespace sluice::tests
