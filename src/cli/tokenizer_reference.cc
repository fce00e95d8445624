#include "cli/tokenizer_reference.h"

#include "tokenizer/open_tokenizer.h"

namespace sluice::cli {

Result<std::shared_ptr<const tokenizer::Tokenizer>> OpenTokenizerReference(const std::string& ref,
                                                                           const Session& session) {
  if (tokenizer::IsTokenizerFile(ref)) return tokenizer::OpenTokenizerFile(ref);
  SLUICE_ASSIGN(const auto checkpoint, session.Open(ref));
  return OpenTokenizerFor("", *checkpoint, session);
}

Result<std::shared_ptr<const tokenizer::Tokenizer>> OpenTokenizerFor(const std::string& ref,
                                                                     const checkpoint::Checkpoint& model,
                                                                     const Session& session) {
  if (!ref.empty()) return OpenTokenizerReference(ref, session);
  auto tokenizer = tokenizer::OpenTokenizer(model);
  if (!tokenizer) return Fail(std::move(tokenizer.error()).In(model.ref()));
  return tokenizer;
}

}  // namespace sluice::cli
