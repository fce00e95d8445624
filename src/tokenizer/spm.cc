#include "tokenizer/spm.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {
constexpr uint32_t kNone = UINT32_MAX;
}

struct SpmModel::Scratch final : ModelScratch {
  struct Symbol {
    size_t begin, size;  // in the word; size 0: joined to the one before
    uint32_t before, next;
    bool frozen;
  };
  struct Candidate {
    float score;
    uint32_t left, right;
    size_t size;
    bool operator<(const Candidate& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

SpmModel::SpmModel(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> scores, SpmUnknown unknown,
                   SpmOptions options)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      unknown_(std::move(unknown)),
      options_(std::move(options)) {
  cuts_before_metaspace_ = vocabulary_->Find(kMetaspace).has_value();
  SLUICE_CHECK(scores_.size() >= vocabulary_->size());
  for (uint32_t id = 0; id < vocabulary_->size() && cuts_before_metaspace_; ++id) {
    cuts_before_metaspace_ = !MetaspaceInside(vocabulary_->piece(id));
  }
}

std::optional<uint32_t> SpmModel::Find(std::string_view text) const {
  const auto id = vocabulary_->Find(text);
  return id && *id < options_.excluded.size() && options_.excluded[*id] ? std::nullopt : id;
}

std::unique_ptr<ModelScratch> SpmModel::NewScratch() const { return std::make_unique<Scratch>(); }

Result<void> SpmModel::Encode(std::string_view word, ModelScratch* model_scratch, std::vector<uint32_t>* ids) const {
  auto* scratch = static_cast<Scratch*>(model_scratch);
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  symbols.clear();
  heap.clear();
  for (size_t at = 0; at < word.size();) {
    const auto user_defined = options_.user_defined.LongestPrefix(word.substr(at));
    const size_t size = user_defined.value_or(CodePointAt(word, at).size_bytes);
    const auto index = static_cast<uint32_t>(symbols.size());
    symbols.push_back({at, size, index == 0 ? kNone : index - 1, index + 1, user_defined.has_value()});
    at += size;
  }
  if (symbols.empty()) return {};
  symbols.back().next = kNone;

  const auto push = [&](uint32_t left, uint32_t right) {
    if (left == kNone || right == kNone || symbols[left].frozen || symbols[right].frozen) return;
    const size_t size = symbols[left].size + symbols[right].size;
    if (size > vocabulary_->max_piece_bytes()) return;
    const auto id = Find(word.substr(symbols[left].begin, size));
    if (!id) return;
    heap.push_back({scores_[*id], left, right, size});
    std::push_heap(heap.begin(), heap.end());
  };
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) push(i, i + 1);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.left];
    Scratch::Symbol& right = symbols[top.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;
    left.size += right.size;
    right.size = 0;
    left.next = right.next;
    if (right.next != kNone) symbols[right.next].before = top.left;
    push(left.before, top.left);
    push(top.left, left.next);
  }
  bool behind_unknown = false;
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) {
    const std::string_view text = word.substr(symbols[i].begin, symbols[i].size);
    if (const auto id = Find(text)) {
      ids->push_back(*id);
      behind_unknown = false;
    } else if (!unknown_.byte_ids.empty()) {
      for (const char byte : text) ids->push_back(unknown_.byte_ids[static_cast<uint8_t>(byte)]);
    } else if (!std::exchange(behind_unknown, true)) {
      ids->push_back(unknown_.unk_id);
    }
  }
  return {};
}

}  // namespace sluice::tokenizer
