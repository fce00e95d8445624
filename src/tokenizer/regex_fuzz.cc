// A pattern, a zero byte and a text: refused, or its finds lie in order on whole characters.
#include <string_view>

#include "base/check.h"
#include "formats/json_reader.h"
#include "tokenizer/regex.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  const std::string_view text = end == std::string_view::npos ? "" : input.substr(end + 1);
  const auto regex = tokenizer::Regex::Compile(input.substr(0, end));
  if (!regex) {
    SLUICE_CHECK(!regex.error().message.empty());
    return 0;
  }
  if (text.size() > 256 || formats::FirstInvalidUtf8(text)) return 0;
  tokenizer::Regex::Searcher searcher(*regex, text);
  size_t from = 0;
  for (int count = 0; count < 600; ++count) {
    const auto match = searcher.Next();
    if (!match || !*match) return 0;
    SLUICE_CHECK((*match)->begin >= from && (*match)->end >= (*match)->begin && (*match)->end <= text.size());
    SLUICE_CHECK(!formats::FirstInvalidUtf8(text.substr((*match)->begin, (*match)->end - (*match)->begin)));
    from = (*match)->end;
  }
  SLUICE_CHECK(false);  // more finds than characters
  return 0;
}
