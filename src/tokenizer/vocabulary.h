// Vocabulary: the pieces of a tokenizer by id, and their ids by text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tokenizer {

// Filled by one thread, then immutable and thread-safe. Memory: the pieces' bytes and about 17 bytes a piece.
class Vocabulary {
 public:
  // More than any real tokenizer has.
  static constexpr uint32_t kMaxPieces = 1u << 24;

  // Gives `id` this piece; ids may come in any order and leave holes (empty pieces that no text finds). False where id
  // is beyond kMaxPieces, or the text has an id already and keeps it.
  bool Set(uint32_t id, std::string_view piece);
  // The same, but the text finds the new id from here on, and the old one keeps it as its piece.
  bool SetLast(uint32_t id, std::string_view piece);

  uint32_t size() const { return static_cast<uint32_t>(pieces_.size()); }  // the highest id and 1
  // Empty for a hole and for ids beyond the end.
  std::string_view piece(uint32_t id) const {
    if (id >= pieces_.size()) return {};
    return std::string_view(bytes_).substr(pieces_[id].begin, pieces_[id].size);
  }
  std::optional<uint32_t> Find(std::string_view piece) const;
  size_t max_piece_bytes() const { return max_piece_bytes_; }

 private:
  struct Place {
    uint64_t begin = 0;
    uint32_t size = 0;
  };
  void Grow();
  bool Put(uint32_t id, std::string_view piece, bool last_wins);
  size_t SlotOf(std::string_view piece) const;

  std::string bytes_;
  std::vector<Place> pieces_;
  std::vector<uint32_t> slots_;  // ids by hash, open addressing; its size is a power of two, at least half of it free
  size_t num_found_ = 0, max_piece_bytes_ = 0;
};

}  // namespace sluice::tokenizer
