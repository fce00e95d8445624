// The keys of a GGUF model under its architecture's prefix, read with errors that name file and key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_parts.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"

namespace sluice::checkpoint {

class GgufKeys {
 public:
  // `architecture` is the prefix without its dot. `problems` is appended to by Report. All outlive it.
  GgufKeys(const GgufParts& parts, std::string_view architecture, std::vector<Problem>* problems);

  const formats::GgufFile& file() const { return file_; }  // that has the keys
  std::string Full(std::string_view key) const;            // "llama.block_count"
  bool Has(std::string_view key) const { return file_.FindKey(Full(key)) != nullptr; }

  // A size of the model, from 1 to 2^32 - 1. An array says it per layer; only arrays of one value have a config.json.
  Result<uint64_t> Size(std::string_view key, std::optional<uint64_t> fallback = std::nullopt) const;
  Result<std::optional<double>> Number(std::string_view key) const;  // finite, from 0 on
  Result<std::optional<std::string>> String(std::string_view key) const { return file_.GetString(Full(key)); }
  // All of a tensor of so many F32, of rank 1; nullopt where there is no such tensor.
  Result<std::optional<std::vector<float>>> Floats(std::string_view tensor, uint64_t count) const;
  const GgufParts::Tensor* FindTensor(std::string_view name) const;

  tl::unexpected<Error> Wrong(std::string_view key, std::string message, ErrorCode code = ErrorCode::kCorrupt) const;
  tl::unexpected<Error> Missing(std::string_view key) const;
  void Report(Problem::Severity severity, std::string message, std::string tensor = {}) const;

 private:
  const GgufParts& parts_;
  const formats::GgufFile& file_;
  const std::string path_, prefix_;
  std::vector<Problem>* problems_;
};

// Rotary embedding as config.json has it: rope_theta, rope_scaling, and what else the architecture has of it.
// rotary_dim: of a head's numbers that are rotated.
Result<void> AddRopeConfig(const GgufKeys& keys, uint64_t rotary_dim, uint64_t context_length,
                           nlohmann::ordered_json* config);

// The other way round: keys, and tensors of factors, from a CompleteConfig. kUnsupported for scaling that GGUF cannot
// say. `architecture` is the prefix without its dot.
Result<void> AddRopeKeys(const nlohmann::ordered_json& config, uint64_t rotary_dim, std::string_view architecture,
                         formats::GgufHeader* header);

}  // namespace sluice::checkpoint
