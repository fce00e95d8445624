#include "verify/behaviour/vocabulary_alignment.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <unordered_map>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::verify::behaviour {
namespace {

using tokenizer::Tokenizer;
using Way = VocabularyAlignment::Way;

constexpr uint32_t kNone = UINT32_MAX;

bool SameToken(const Tokenizer& a, const Tokenizer& b, uint32_t id) {
  if (a.piece(id) != b.piece(id)) return false;
  // Equal spellings stand for different bytes where one side reads "Ġ" as a space and the other as itself.
  return a.is_special(id) || b.is_special(id) || a.TokenBytes(id) == b.TokenBytes(id);
}

bool NumberAlike(const Tokenizer& a, const Tokenizer& b) {
  if (&a == &b) return true;
  const uint32_t both = std::min(a.vocab_size(), b.vocab_size());
  for (uint32_t id = 0; id < both; ++id) {
    if (!SameToken(a, b, id)) return false;
  }
  return true;
}

// A key under which equal tokens are found: special ones by their text, apart from all others.
std::string KeyOf(const Tokenizer& tokenizer, uint32_t id) {
  return (tokenizer.is_special(id) ? "s" : "t") + *tokenizer.TokenBytes(id);
}

// Of each id of A its counterpart in B, or kNone.
std::vector<uint32_t> Match(const Tokenizer& a, const Tokenizer& b) {
  std::vector<uint32_t> match(a.vocab_size(), kNone);
  std::vector<bool> taken(b.vocab_size());
  // By spelling first, which tells apart what stands for the same bytes.
  std::unordered_map<std::string_view, uint32_t> by_piece;
  for (uint32_t id = 0; id < b.vocab_size(); ++id) {
    if (!b.piece(id).empty()) by_piece.emplace(b.piece(id), id);
  }
  for (uint32_t id = 0; id < a.vocab_size(); ++id) {
    const auto found = a.piece(id).empty() ? by_piece.end() : by_piece.find(a.piece(id));
    if (found == by_piece.end() || taken[found->second]) continue;
    const bool special = a.is_special(id) || b.is_special(found->second);
    if (!special && a.TokenBytes(id) != b.TokenBytes(found->second)) continue;
    match[id] = found->second;
    taken[found->second] = true;
  }
  by_piece.clear();
  // Then what is left by its bytes, where one token alone has them on each side.
  struct Holders {
    uint32_t in_a = kNone, in_b = kNone;
    bool several = false;
  };
  std::unordered_map<std::string, Holders> by_bytes;
  for (uint32_t id = 0; id < a.vocab_size(); ++id) {
    if (match[id] != kNone || a.piece(id).empty()) continue;
    Holders& holders = by_bytes[KeyOf(a, id)];
    holders.several |= holders.in_a != kNone;
    holders.in_a = id;
  }
  for (uint32_t id = 0; id < b.vocab_size(); ++id) {
    if (taken[id] || b.piece(id).empty()) continue;
    const auto found = by_bytes.find(KeyOf(b, id));
    if (found == by_bytes.end()) continue;
    found->second.several |= found->second.in_b != kNone;
    found->second.in_b = id;
  }
  for (const auto& [key, holders] : by_bytes) {
    if (!holders.several && holders.in_b != kNone) match[holders.in_a] = holders.in_b;
  }
  return match;
}

bool IsIdentity(const std::vector<uint32_t>& order) {
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != i) return false;
  }
  return true;
}

void AlignByBytes(const Tokenizer& a, const Tokenizer& b, VocabularyAlignment* alignment) {
  alignment->way = Way::kByBytes;
  const std::vector<uint32_t> match = Match(a, b);
  std::vector<bool> shared_b(alignment->rows_b);
  for (uint32_t id = 0; id < match.size(); ++id) {
    if (match[id] == kNone) continue;
    alignment->order_a.push_back(id);
    alignment->order_b.push_back(match[id]);
    shared_b[match[id]] = true;
  }
  alignment->shared = alignment->order_a.size();
  for (uint32_t id = 0; id < alignment->rows_a; ++id) {
    if (id >= match.size() || match[id] == kNone) alignment->order_a.push_back(id);
  }
  for (uint32_t id = 0; id < alignment->rows_b; ++id) {
    if (!shared_b[id]) alignment->order_b.push_back(id);
  }
  SLUICE_CHECK(alignment->order_a.size() == alignment->rows_a && alignment->order_b.size() == alignment->rows_b);
  if (IsIdentity(alignment->order_a)) alignment->order_a.clear();
  if (IsIdentity(alignment->order_b)) alignment->order_b.clear();
}

Result<void> CheckFits(const Tokenizer* tokenizer, uint64_t rows, const char* side) {
  if (tokenizer == nullptr || tokenizer->vocab_size() <= rows) return {};
  // Ids that no text makes: tables are often a few entries longer than the model.
  for (uint32_t id = static_cast<uint32_t>(rows); id < tokenizer->vocab_size(); ++id) {
    if (tokenizer->piece(id).empty()) continue;
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{}: the tokenizer has a token {} and the model's vocabulary ends at {}: it is another "
                            "model's",
                            side, id, rows));
  }
  return {};
}

}  // namespace

kernels::Hash256 VocabularyAlignment::DrawableHash() const {
  kernels::Sha256 hash;
  const auto add = [&](uint32_t id) {
    const uint8_t bytes[4] = {static_cast<uint8_t>(id), static_cast<uint8_t>(id >> 8), static_cast<uint8_t>(id >> 16),
                              static_cast<uint8_t>(id >> 24)};
    hash.Update(bytes);
  };
  for (const uint32_t id : drawable) add(IdInA(id));
  for (const uint32_t id : drawable) add(IdInB(id));
  return hash.Finish();
}

const char* WayName(Way way) {
  switch (way) {
    case Way::kSameTokens:
      return "same_tokens";
    case Way::kByBytes:
      return "by_bytes";
    case Way::kByNumber:
      return "by_number";
  }
  SLUICE_CHECK(false);
}

std::vector<uint32_t> InverseOrder(const std::vector<uint32_t>& order) {
  std::vector<uint32_t> inverse(order.size());
  for (uint32_t id = 0; id < order.size(); ++id) inverse[order[id]] = id;
  return inverse;
}

Result<VocabularyAlignment> AlignVocabularies(const Tokenizer* a, uint64_t rows_a, const Tokenizer* b,
                                              uint64_t rows_b) {
  if (a != nullptr && a->vocab_size() == 0) a = nullptr;
  if (b != nullptr && b->vocab_size() == 0) b = nullptr;
  SLUICE_TRY(CheckFits(a, rows_a, "A"));
  SLUICE_TRY(CheckFits(b, rows_b, "B"));
  VocabularyAlignment alignment{.rows_a = rows_a, .rows_b = rows_b};
  const Tokenizer* const either = a != nullptr ? a : b;
  if (a == nullptr || b == nullptr) {
    if (rows_a != rows_b) {
      return Fail(
          ErrorCode::kCorrupt,
          fmt::format("the vocabularies have {} and {} tokens, and {}: nothing tells which tokens are the same; "
                      "put tokenizer.json beside the weights",
                      rows_a, rows_b,
                      either == nullptr ? "neither model has a tokenizer" : "one model has no tokenizer"));
    }
    alignment.way = Way::kByNumber;
    alignment.note =
        either == nullptr
            ? "neither model has a tokenizer: ids are taken for the same tokens, and none is known to be "
              "special"
            : fmt::format("{} has no tokenizer: its ids are taken for the other's tokens", a == nullptr ? "A" : "B");
    alignment.shared = rows_a;
  } else if (NumberAlike(*a, *b)) {
    // Rows behind the tokens are padding, alike on both sides; but one side's padding is no token of the other's.
    alignment.shared = std::min(rows_a, rows_b);
    if (a->vocab_size() != b->vocab_size()) {
      alignment.shared = std::min<uint64_t>(alignment.shared, std::min(a->vocab_size(), b->vocab_size()));
    }
  } else {
    AlignByBytes(*a, *b, &alignment);
  }
  const auto is_plain = [](const Tokenizer* tokenizer, uint32_t id) {
    return tokenizer == nullptr || (!tokenizer->piece(id).empty() && !tokenizer->is_special(id));
  };
  for (uint32_t id = 0; id < alignment.shared; ++id) {
    const uint32_t id_a = alignment.IdInA(id), id_b = alignment.IdInB(id);
    if (is_plain(a == nullptr ? b : a, a == nullptr ? id_b : id_a) &&
        is_plain(b == nullptr ? a : b, b == nullptr ? id_a : id_b)) {
      alignment.drawable.push_back(id);
    }
  }
  if (alignment.drawable.empty()) {
    return Fail(ErrorCode::kCorrupt,
                "the two tokenizers have no token in common that is not special: no challenge can "
                "be asked of both models");
  }
  return alignment;
}

}  // namespace sluice::verify::behaviour
