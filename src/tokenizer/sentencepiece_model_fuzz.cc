// Any bytes as a tokenizer.model: opens or is refused, and then encodes a text that can be decoded.
#include <string_view>

#include "base/check.h"
#include "tokenizer/sentencepiece_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const auto tokenizer =
      tokenizer::ParseSentencePieceModel(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.model", {});
  if (!tokenizer) {
    SLUICE_CHECK(!tokenizer.error().message.empty() && !tokenizer.error().context.empty());
    return 0;
  }
  const auto ids =
      (*tokenizer)
          ->Encode("  Hello, w\xC3\xB6rld <s> \xF0\x9F\x98\x80\t12  !", {.add_special = true, .parse_special = true});
  if (ids) SLUICE_CHECK((*tokenizer)->Decode(*ids).has_value());
  return 0;
}
