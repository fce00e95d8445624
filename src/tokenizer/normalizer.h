// Normalizers: what happens to a text before it is cut into words. The names are those of Hugging Face's tokenizers.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"

namespace sluice::tokenizer {

// Immutable; thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // `*text` is well-formed UTF-8 and stays so.
  virtual Result<void> Run(std::string* text) const = 0;
};

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::unique_ptr<const Normalizer> MakeNormalForm(NormalForm form);
std::unique_ptr<const Normalizer> MakeLowercase();
// `text` before any text that is not empty.
std::unique_ptr<const Normalizer> MakePrepend(std::string text);
// All that `pattern` finds becomes `content`.
std::unique_ptr<const Normalizer> MakeReplace(Regex pattern, std::string content);
// The same for a text (not empty).
std::unique_ptr<const Normalizer> MakeReplaceText(std::string text, std::string content);
std::unique_ptr<const Normalizer> MakeStrip(bool left, bool right);  // white space at the ends
std::unique_ptr<const Normalizer> MakeStripAccents();                // all marks (M)
std::unique_ptr<const Normalizer> MakeSequence(std::vector<std::unique_ptr<const Normalizer>> parts);

}  // namespace sluice::tokenizer
