#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <functional>

namespace sluice::tokenizer {
namespace {
constexpr uint32_t kFree = UINT32_MAX;
}

size_t Vocabulary::SlotOf(std::string_view piece) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(piece)&mask;
  while (slots_[slot] != kFree && this->piece(slots_[slot]) != piece) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::Grow() {
  const std::vector<uint32_t> old = std::move(slots_);
  slots_.assign(std::max<size_t>(64, old.size() * 2), kFree);
  for (const uint32_t id : old) {
    if (id != kFree) slots_[SlotOf(piece(id))] = id;
  }
}

bool Vocabulary::Set(uint32_t id, std::string_view piece) { return Put(id, piece, false); }
bool Vocabulary::SetLast(uint32_t id, std::string_view piece) { return Put(id, piece, true); }

bool Vocabulary::Put(uint32_t id, std::string_view piece, bool last_wins) {
  if (id >= kMaxPieces) return false;
  if (slots_.size() < 2 * (num_found_ + 1)) Grow();
  const size_t slot = SlotOf(piece);
  if (slots_[slot] != kFree && !last_wins) return false;
  if (id >= pieces_.size()) pieces_.resize(size_t{id} + 1);
  pieces_[id] = {bytes_.size(), static_cast<uint32_t>(piece.size())};
  bytes_ += piece;
  slots_[slot] = id;
  ++num_found_;
  max_piece_bytes_ = std::max(max_piece_bytes_, piece.size());
  return true;
}

std::optional<uint32_t> Vocabulary::Find(std::string_view piece) const {
  if (slots_.empty()) return std::nullopt;
  const uint32_t id = slots_[SlotOf(piece)];
  return id == kFree ? std::nullopt : std::optional(id);
}

}  // namespace sluice::tokenizer
