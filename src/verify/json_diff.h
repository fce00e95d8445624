// Two JSON objects key by key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::verify {

struct KeyDifference {
  std::string key;             // "rope_theta", "rope_scaling.factor"
  std::string a, b;            // as JSON; empty where the side has no such key
  bool architectural = false;  // of a model's config: changes what the forward pass computes
  std::string file = {};       // of a tokenizer's settings: the file; else empty
};

// Nested keys joined by dots, lists as a whole; sorted by key. What is no JSON object has no keys. `architectural` is
// left for the caller.
std::vector<KeyDifference> DiffJson(std::string_view a, std::string_view b);

}  // namespace sluice::verify
