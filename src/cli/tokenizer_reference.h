// Tokenizers by what a user names: a model, or a file that holds a tokenizer and needs no model around it.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "cli/session.h"
#include "tokenizer/tokenizer.h"

namespace sluice::cli {

// kNotFound where `ref` is a model without one. Errors name it.
Result<std::shared_ptr<const tokenizer::Tokenizer>> OpenTokenizerReference(const std::string& ref,
                                                                           const Session& session);

// That of `ref`, which --tokenizer gave, or where it is empty the model's own.
Result<std::shared_ptr<const tokenizer::Tokenizer>> OpenTokenizerFor(const std::string& ref,
                                                                     const checkpoint::Checkpoint& model,
                                                                     const Session& session);

}  // namespace sluice::cli
