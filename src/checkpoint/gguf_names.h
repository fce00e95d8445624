// GGUF's names of tensors, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/architecture.h"

namespace sluice::checkpoint {

bool IsBias(const TensorRule& rule);
bool IsNorm(const TensorRule& rule);

// "blk.12.attn_q.bias", of a rule; empty where GGUF has no such tensor.
std::string GgufNameOf(const TensorRule& rule, uint64_t layer);

// "blk.12.attn_q.bias" taken apart; nullopt for what is no tensor of the architecture.
struct GgufName {
  const TensorRule* rule;
  std::optional<uint64_t> layer;
};
std::optional<GgufName> ParseGgufName(std::string_view name, const Architecture& architecture);

}  // namespace sluice::checkpoint
