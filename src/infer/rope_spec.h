// Rotary embedding as a config has it (canonical form, docs/formats/digest.md), checked and made a RopeSpec; and the
// reading of checked values from a config, for that and for model_spec.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "infer/rope.h"

namespace sluice::infer {

// Members of a JSON object. `where` goes before a key's name in errors. Keeps a reference.
class ConfigKeys {
 public:
  explicit ConfigKeys(const nlohmann::ordered_json& object, std::string where = "")
      : object_(object), where_(std::move(where)) {}

  const nlohmann::ordered_json& At(std::string_view key) const;  // null where it is missing
  // From 1 to `max`.
  Result<uint64_t> Size(std::string_view key, uint64_t max) const;
  // Finite and above 0.
  Result<double> Positive(std::string_view key) const;
  // The same, or `otherwise` where the key is missing or null.
  Result<double> PositiveOr(std::string_view key, double otherwise) const;
  // kCorrupt: "KEY is VALUE: wanted".
  tl::unexpected<Error> Wrong(std::string_view key, std::string_view wanted) const;

 private:
  const nlohmann::ordered_json& object_;
  std::string where_;
};

struct RopeContext {
  uint64_t head_dim, max_positions;
  bool partial_rotary;  // whether the architecture knows partial_rotary_factor
};

// kUnsupported: a type that is not known, or a partial_rotary_factor that the architecture does not know; kCorrupt: a
// value that makes no sense. Errors name the key, behind `where`.
Result<RopeSpec> ReadRopeSpec(const nlohmann::ordered_json& parameters, const std::string& where,
                              const RopeContext& context);

}  // namespace sluice::infer
