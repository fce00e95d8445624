// Any bytes as a bundle, and as the statement in one: read, or refused in words; a statement that is read is one that
// can be written and read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "verify/model_signature.h"

namespace {

void Try(std::string_view payload) {
  const auto manifest = sluice::verify::ParsePayload(payload, "payload");
  if (!manifest) {
    SLUICE_CHECK(manifest.error().ToString().starts_with("payload: "));
    return;
  }
  SLUICE_CHECK(!manifest->entries.empty());
  for (const auto& entry : manifest->entries) SLUICE_CHECK(sluice::verify::IsManifestName(entry.name));
  SLUICE_CHECK(sluice::verify::CompareFiles(*manifest, manifest->entries).same());
  SLUICE_CHECK(!sluice::verify::CompareFiles(*manifest, {}).same());
  if (manifest->shard_bytes > 0) return;
  const auto again = sluice::verify::ParsePayload(sluice::verify::MakePayload(*manifest), "again");
  SLUICE_CHECK(again && again->root() == manifest->root() && again->ignored == manifest->ignored);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto bundle = sluice::verify::ParseBundle(text, "bundle");
  if (bundle) {
    SLUICE_CHECK(!bundle->payload.empty() && !bundle->signature.empty());
    Try(bundle->payload);
  } else {
    SLUICE_CHECK(bundle.error().ToString().starts_with("bundle: "));
  }
  Try(text);
  return 0;
}
