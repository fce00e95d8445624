// The canonical config: one text for all configs that make the same model. docs/formats/digest.md specifies it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "checkpoint/architecture.h"

namespace sluice::checkpoint {

// kCorrupt where two keys of `config` that mean the same thing say different things, or a key of rotary embedding is of
// a type that cannot be; the message names the keys.
Result<void> CheckForContradictions(const nlohmann::ordered_json& config);

// Rotary embedding as transformers 5 writes it, {rope_type, rope_theta, ...} or one of these per layer type, from the
// keys of either version. Null where the config says nothing about it.
nlohmann::ordered_json RopeParameters(const nlohmann::ordered_json& config);

// The defaults of the config's model_type (or, where it has none, of its architecture); null where it is not known.
const Architecture* DefaultsOf(const nlohmann::ordered_json& config);
// The default of one key, fixed or derived; null where there is none.
nlohmann::ordered_json DefaultOf(const Architecture& architecture, std::string_view key,
                                 const nlohmann::ordered_json& config);

// The config with what changes nothing left out, rotary embedding as RopeParameters has it, and, where the architecture
// is one that runs, every key that it has a default for: equal for configs of transformers 4 and 5 that make the same
// model.
nlohmann::ordered_json CompleteConfig(const nlohmann::ordered_json& config);
std::string CanonicalConfig(const nlohmann::ordered_json& config);  // its text

// JSON on one line, keys sorted by code points, no spaces, UTF-8 as it is; a number that is whole without point or
// exponent, any other as the shortest text that reads back as the same double, in Python's form.
std::string CanonicalJson(const nlohmann::ordered_json& value);

}  // namespace sluice::checkpoint
