// The model card of a merge: what Hugging Face shows of it, and how to make and check it again.
#pragma once

#include <string>

#include "merge/statement.h"

namespace sluice::merge {

inline constexpr char kCardFile[] = "README.md";

// Markdown, with the hub's metadata in front. The statement is whole.
std::string ModelCard(const Statement& statement);

}  // namespace sluice::merge
