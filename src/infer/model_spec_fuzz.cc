// The input is a config.json. Whatever it is: no crash, and either an error that names the file or a spec whose sizes
// and rotary frequencies can be computed with.
#include <cmath>
#include <string_view>

#include "base/check.h"
#include "checkpoint/model_config.h"
#include "infer/model_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const auto config =
      checkpoint::ModelConfig::Parse(std::string_view(reinterpret_cast<const char*>(data), size), "config.json");
  if (!config) return 0;
  const auto spec = infer::SpecOf(**config);
  if (!spec) {
    const ErrorCode code = spec.error().code;
    SLUICE_CHECK(code == ErrorCode::kCorrupt || code == ErrorCode::kUnsupported);
    SLUICE_CHECK(spec.error().ToString().starts_with("config.json: "));
    return 0;
  }
  SLUICE_CHECK(spec->head && spec->head.out == spec->vocab && spec->head.in == spec->hidden);
  for (const infer::LayerSpec& layer : spec->layers) {
    const infer::AttentionSpec& attention = layer.attention;
    SLUICE_CHECK(attention.kv_heads > 0 && attention.heads % attention.kv_heads == 0);
    SLUICE_CHECK(attention.rope < spec->ropes.size() && attention.o.in == attention.heads * attention.head_dim);
    SLUICE_CHECK(attention.scale > 0 && std::isfinite(attention.scale));
    SLUICE_CHECK(!infer::TensorsOf(layer).empty());
  }
  for (const infer::RopeSpec& rope : spec->ropes) {
    SLUICE_CHECK(rope.rotary_dim > 0 && rope.rotary_dim % 2 == 0);
    for (const uint64_t positions : {uint64_t{1}, uint64_t{5000}, uint64_t{1} << 40}) {
      SLUICE_CHECK(infer::FrequenciesOf(rope, positions).inverse.size() == rope.rotary_dim / 2);
    }
  }
  return 0;
}
