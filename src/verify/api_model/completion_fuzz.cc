// A server's answer, in all shapes: parsed or refused; and what is taken as a distribution is one.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "verify/api_model/completion.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::verify::api_model;
  static const TokenTexts texts({{"a"}, {"b"}, {" c"}, {"b"}, {"d"}});
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const AnswerShape shape : {AnswerShape::kNext, AnswerShape::kEcho, AnswerShape::kPromptLists}) {
    const auto completion = ParseCompletion(body, shape);
    if (!completion) continue;
    for (const PositionList& list : completion->lists) {
      for (const uint64_t top : {1, 3, 20}) {
        if (const auto distribution = ToDistribution(list, top, texts))
          SLUICE_CHECK(CheckPartial(*distribution).has_value());
      }
    }
  }
  return 0;
}
