// The input is a config.json. Whatever it is: no crash; the canonical form is JSON, is its own canonical form, and
// Pretty changes nothing.
#include <string_view>

#include "base/check.h"
#include "checkpoint/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::checkpoint::ModelConfig;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = ModelConfig::Parse(text, "input");
  if (!config) {
    SLUICE_CHECK(config.error().code == sluice::ErrorCode::kCorrupt && config.error().context.front() == "input");
    return 0;
  }
  (void)(*config)->PredictedParameters();
  (void)(*config)->TiedEmbeddings();
  (void)(*config)->GetNumber("rope_theta");
  const std::string canonical = (*config)->Canonical();
  const auto again = ModelConfig::Parse(canonical, "canonical");
  SLUICE_CHECK(again.has_value());
  SLUICE_CHECK((*again)->Canonical() == canonical);
  const auto pretty = ModelConfig::Parse((*config)->Pretty(), "pretty");
  SLUICE_CHECK(pretty.has_value() && (*pretty)->Canonical() == canonical);
  return 0;
}
