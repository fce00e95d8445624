// ModelConfig: config.json as it stands (unknown keys kept), with typed access to what sluice needs to know. Immutable;
// thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace sluice::checkpoint {

class ModelConfig {
 public:
  // Strict JSON, an object, no duplicate keys; errors (kCorrupt) name file, line and column. Keys of transformers 4 and
  // 5 that say the same thing differently (rope_theta, torch_dtype) are refused where they contradict each other.
  static Result<std::shared_ptr<const ModelConfig>> Parse(std::string_view text, const std::string& file);
  static std::shared_ptr<const ModelConfig> FromJson(nlohmann::ordered_json json);

  const nlohmann::ordered_json& json() const { return json_; }
  std::string architecture() const;  // architectures[0], else model_type, else empty

  // The value of a key; where the key is missing or null, the default of an architecture that we know; else nothing.
  // "rope_theta" is found in rope_parameters too, "torch_dtype" under "dtype" and the other way round.
  nlohmann::ordered_json Value(std::string_view key) const;    // null where there is none
  std::optional<uint64_t> GetInt(std::string_view key) const;  // a whole number of 0 or more, however written
  std::optional<double> GetNumber(std::string_view key) const;
  std::optional<bool> GetBool(std::string_view key) const;
  std::string GetString(std::string_view key) const;
  bool TiedEmbeddings() const;  // of an unknown architecture that does not say: true, as transformers has it

  // The config with what changes nothing left out, defaults filled in, keys sorted, on one line: what model_root
  // hashes. docs/formats/digest.md lists the keys and defaults.
  std::string Canonical() const;

  // Parameters that the config predicts, for architectures that we know; nullopt otherwise.
  std::optional<uint64_t> PredictedParameters() const;

  std::string Pretty() const;  // as written to a folder: two spaces, a final newline

 private:
  nlohmann::ordered_json json_;
};

}  // namespace sluice::checkpoint
