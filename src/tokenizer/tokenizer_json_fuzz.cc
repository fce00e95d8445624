// Any bytes as a tokenizer.json, and a text for it: opens or is refused, and encodes any UTF-8 to ids that can be
// decoded, in one piece and streamed. What stands behind the first zero byte is the text.
#include <string_view>

#include "base/check.h"
#include "formats/json_reader.h"
#include "tokenizer/tokenizer_json.h"

namespace {

void Use(const std::shared_ptr<const sluice::tokenizer::Tokenizer>& tokenizer, std::string_view text) {
  using namespace sluice;
  for (const bool special : {false, true}) {
    const auto ids = tokenizer->Encode(text, {.add_special = special, .parse_special = special});
    if (!ids) {
      SLUICE_CHECK(!ids.error().message.empty());
      continue;
    }
    std::string streamed;
    tokenizer::StreamDecoder decoder(tokenizer);
    bool whole = true;
    for (const uint32_t id : *ids) {
      const auto part = decoder.Push(id);
      whole = whole && part;
      if (part) streamed += *part;
    }
    streamed += decoder.Finish();
    const auto decoded = tokenizer->Decode(*ids);
    // A frame may name ids that no token has.
    SLUICE_CHECK(decoded.has_value() == whole);
    if (whole) SLUICE_CHECK(streamed == *decoded);
    if (!special) SLUICE_CHECK(whole);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  const std::string_view text = end == std::string_view::npos ? "Hello, w\xC3\xB6rld 12  !" : input.substr(end + 1);
  const auto tokenizer = tokenizer::ParseTokenizerJson(input.substr(0, end), "fuzz.json", {});
  if (tokenizer) {
    Use(*tokenizer, text);
  } else {
    SLUICE_CHECK(!tokenizer.error().message.empty() && !tokenizer.error().context.empty());
  }
  return 0;
}
