#include "tokenizer/open_tokenizer.h"

#include <string_view>

#include <fmt/format.h>

#include "formats/gguf.h"
#include "io/byte_source.h"
#include "tokenizer/gguf_tokenizer.h"

namespace sluice::tokenizer {
namespace {

Result<std::shared_ptr<const Tokenizer>> OpenGguf(const std::string& path) {
  SLUICE_ASSIGN(const auto source, io::OpenFile(path));
  SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(source));
  return OpenGgufTokenizer(*gguf);
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> OpenTokenizer(const checkpoint::Checkpoint& checkpoint) {
  // The tables of a GGUF; a cast or recipe of one has them in the same file.
  for (const auto& file : checkpoint.files()) {
    if (file.path.ends_with(".gguf")) return OpenGguf(file.path);
  }
  return Fail(Error{ErrorCode::kNotFound,
                    "there is no tokenizer beside the weights: put the model's tokenizer.json (or tokenizer.model) there",
                    {checkpoint.ref()}});
}

bool IsTokenizerFile(const std::string& path) { return path.ends_with(".gguf"); }

Result<std::shared_ptr<const Tokenizer>> OpenTokenizerFile(const std::string& path) { return OpenGguf(path); }

}  // namespace sluice::tokenizer
