// Any bytes as a recipe: it is read, or refused with places that lie in the text; nothing is opened.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "merge/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  // A first line "--set key=value" is an override.
  constexpr std::string_view kFlag = "--set ";
  std::vector<std::string> overrides;
  size_t begin = 0;
  if (text.starts_with(kFlag)) {
    const size_t end = std::min(text.find('\n'), text.size());
    overrides.push_back(text.substr(kFlag.size(), end - kFlag.size()));
    begin = std::min(end + 1, text.size());
  }
  const sluice::merge::Recipe recipe = sluice::merge::ParseRecipe(text.substr(begin), "recipe.yml", overrides);
  for (const sluice::merge::Diagnostic& diagnostic : recipe.diagnostics.all()) {
    SLUICE_CHECK(!diagnostic.message.empty());
    SLUICE_CHECK(diagnostic.mark.line <= size + 1 && diagnostic.mark.column <= size + 1);
  }
  if (recipe.diagnostics.has_errors()) {
    SLUICE_CHECK(!recipe.diagnostics.ToError().context.empty());
  } else {
    SLUICE_CHECK(recipe.method != nullptr && !recipe.slices.empty() && !recipe.slices[0].sources.empty());
  }
  return 0;
}
