// The input is JSON or not. What we accept, nlohmann accepts as the same value; what only we refuse, we refuse for a
// reason of ours: a key twice, nesting, a byte-order mark.
#include <string_view>

#include "base/check.h"
#include "formats/json_document.h"
#include "formats/json_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::formats;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  JsonReader skipping(text);
  const bool is_json = skipping.Skip() && skipping.End();
  const auto ours = ParseJson(text, "input");
  const auto theirs = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  SLUICE_CHECK(is_json || !ours.has_value());
  if (ours) {
    SLUICE_CHECK(!theirs.is_discarded());
    SLUICE_CHECK(*ours == theirs);
  } else if (!theirs.is_discarded()) {
    const bool twice = ours.error().message.find("a second time") != std::string::npos;
    const bool has_nul = text.find('\0') != std::string_view::npos;
    SLUICE_CHECK(twice || has_nul || skipping.error() == JsonError::kTooDeep ||
                 skipping.error() == JsonError::kByteOrderMark);
  }
  std::string written;
  if (ours && ours->is_string()) {
    AppendJsonString(ours->get_ref<const std::string&>(), &written);
    SLUICE_CHECK(ParseJson(written, "again").value() == *ours);
  }
  return 0;
}
