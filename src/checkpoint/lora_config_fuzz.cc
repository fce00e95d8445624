// The input is an adapter_config.json. Whatever it is: no crash; an error names the file; ranks are over 0, and
// patterns come to an end.
#include <string_view>

#include "base/check.h"
#include "checkpoint/lora_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::checkpoint::LoraConfig;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = LoraConfig::Parse(text, "input");
  if (!config) {
    SLUICE_CHECK(config.error().code == sluice::ErrorCode::kCorrupt ||
                 config.error().code == sluice::ErrorCode::kUnsupported);
    SLUICE_CHECK(config.error().context.front() == "input" && !config.error().message.empty());
    return 0;
  }
  for (const std::string_view module : {"model.layers.0.self_attn.q_proj", "model.layers.11.mlp.experts.3.down_proj",
                                        "lm_head", "", "...", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    SLUICE_CHECK(config->Rank(module) > 0);
    (void)config->Scale(module);
    (void)config->IsTarget(module);
  }
  return 0;
}
