#include "tokenizer/bpe.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include <fmt/format.h>

#include "base/check.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
// Up to here the best pair is found by looking at all of them, which beats a heap.
constexpr size_t kMaxShort = 96;

uint64_t PairOf(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

size_t HashOf(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15;
  return pair ^ pair >> 32;
}

}  // namespace

struct BpeModel::Scratch final : ModelScratch {
  struct Symbol {
    uint32_t id, before, next;  // id kNone: merged into the one before
  };
  struct Candidate {
    uint32_t rank, left, id;
    uint64_t pair;
    bool operator<(const Candidate& other) const {  // std::push_heap keeps the largest on top
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::string text;
  std::vector<uint32_t> symbols;
  std::vector<const Merge*> best;  // of symbol i and i + 1; null where there is no merge
  std::vector<Symbol> list;
  std::vector<Candidate> heap;
};

std::unique_ptr<ModelScratch> BpeModel::NewScratch() const { return std::make_unique<Scratch>(); }

Result<std::unique_ptr<BpeModel>> BpeModel::Make(std::shared_ptr<const Vocabulary> vocabulary, const Merges& merges,
                                                 BpeOptions options) {
  std::unique_ptr<BpeModel> model(new BpeModel);
  model->vocabulary_ = std::move(vocabulary);
  model->options_ = std::move(options);
  SLUICE_CHECK(!model->options_.keep_unknown || model->options_.byte_level);
  if (!model->options_.unk_token.empty()) model->unk_id_ = model->vocabulary_->Find(model->options_.unk_token);
  if (model->options_.byte_level) {
    for (const std::string& character : ByteLevelCharacters()) {
      const auto id = model->vocabulary_->Find(character);
      model->byte_ids_.push_back(id ? *id : model->options_.keep_unknown ? model->UnknownId(character) : kNone);
    }
  }
  SLUICE_TRY(model->AddMerges(merges));
  return model;
}

Result<void> BpeModel::AddMerges(const Merges& merges) {
  size_t slots = 64;
  while (slots < 2 * merges.size()) slots *= 2;
  merges_.assign(slots, {kNoPair, 0, 0});
  std::unordered_map<std::string, uint32_t> unknown;
  const auto find = [&](const std::string& text) -> std::optional<uint32_t> {
    if (const auto id = vocabulary_->Find(text)) return id;
    if (!options_.keep_unknown) return std::nullopt;
    for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      if (ByteLevelCharacters()[byte] == text) return byte_ids_[byte];
    }
    const auto [place, is_new] = unknown.try_emplace(text, 0);
    if (is_new) place->second = UnknownId(text);
    return place->second;
  };
  const size_t prefix = options_.continuing_subword_prefix.size();
  cuts_before_metaspace_ = !options_.byte_level && !options_.ignore_merges && prefix == 0 &&
                           options_.end_of_word_suffix.empty() && vocabulary_->Find(kMetaspace).has_value();
  std::string whole;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    whole = left;
    whole += right.substr(std::min(prefix, right.size()));
    const auto left_id = find(std::string(left)), right_id = find(std::string(right)), id = find(whole);
    if (!left_id || !right_id || !id) {
      return Fail(
          ErrorCode::kCorrupt,
          fmt::format("merge {} makes \"{}\" of \"{}\" and \"{}\", but \"{}\" is not in the vocabulary; the files "
                      "do not belong together",
                      rank, whole, left, right,
                      !left_id    ? left
                      : !right_id ? right
                                  : std::string_view(whole)));
    }
    cuts_before_metaspace_ = cuts_before_metaspace_ && !MetaspaceInside(whole);
    Insert(PairOf(*left_id, *right_id), static_cast<uint32_t>(rank), *id);
  }
  return {};
}

void BpeModel::Insert(uint64_t pair, uint32_t rank, uint32_t id) {
  size_t slot = HashOf(pair) & (merges_.size() - 1);
  while (merges_[slot].pair != kNoPair && merges_[slot].pair != pair) slot = (slot + 1) & (merges_.size() - 1);
  // Of a pair that stands twice, llama.cpp keeps the first rank and Hugging Face the last.
  if (merges_[slot].pair == pair && options_.keep_unknown) return;
  merges_[slot] = {pair, rank, id};
}

const BpeModel::Merge* BpeModel::Find(uint32_t left, uint32_t right) const {
  const uint64_t pair = PairOf(left, right);
  size_t slot = HashOf(pair) & (merges_.size() - 1);
  while (merges_[slot].pair != pair) {
    if (merges_[slot].pair == kNoPair) return nullptr;
    slot = (slot + 1) & (merges_.size() - 1);
  }
  return &merges_[slot];
}

uint32_t BpeModel::UnknownId(std::string_view text) {
  unknown_texts_.emplace_back(text);
  return vocabulary_->size() + static_cast<uint32_t>(unknown_texts_.size() - 1);
}

std::string_view BpeModel::TextOf(uint32_t id) const {
  return id < vocabulary_->size() ? vocabulary_->piece(id) : unknown_texts_[id - vocabulary_->size()];
}

Result<void> BpeModel::Encode(std::string_view word, ModelScratch* model_scratch, std::vector<uint32_t>* ids) const {
  auto* scratch = static_cast<Scratch*>(model_scratch);
  if (options_.ignore_merges) {
    std::string_view text = word;
    if (options_.byte_level) {
      scratch->text.clear();
      AppendByteLevel(word, &scratch->text);
      text = scratch->text;
    }
    if (const auto id = vocabulary_->Find(text)) {
      ids->push_back(*id);
      return {};
    }
  }
  scratch->symbols.clear();
  SLUICE_TRY(Symbols(word, &scratch->symbols));
  if (scratch->symbols.size() <= kMaxShort) {
    MergeShort(scratch);
  } else {
    MergeLong(scratch);
  }
  for (const uint32_t symbol : scratch->symbols) Append(symbol, ids);
  return {};
}

Result<void> BpeModel::Symbols(std::string_view word, std::vector<uint32_t>* symbols) const {
  // Characters that are no piece, in the order in which Hugging Face's tokenizers gives them out: one that is waiting
  // is overtaken by bytes that another fell into.
  bool waiting = false;
  std::string decorated;
  for (size_t at = 0; at < word.size();) {
    const size_t size = options_.byte_level ? 1 : CodePointAt(word, at).size_bytes;
    std::string_view character = word.substr(at, size);
    uint32_t id = kNone;
    const bool prefixed = at > 0 && !options_.continuing_subword_prefix.empty();
    const bool suffixed = at + size == word.size() && !options_.end_of_word_suffix.empty();
    if (options_.byte_level && !prefixed && !suffixed) {
      id = byte_ids_[static_cast<uint8_t>(word[at])];
    } else {
      decorated = prefixed ? options_.continuing_subword_prefix : "";
      if (options_.byte_level) {
        AppendByteLevel(character, &decorated);
      } else {
        decorated += character;
      }
      if (suffixed) decorated += options_.end_of_word_suffix;
      id = vocabulary_->Find(decorated).value_or(kNone);
      character = decorated;
    }
    at += size;
    if (id != kNone) {
      if (waiting) symbols->push_back(*unk_id_);
      waiting = false;
      symbols->push_back(id);
      continue;
    }
    if (options_.byte_fallback) {
      const std::string text = options_.byte_level && character.size() == 1
                                   ? ByteLevelCharacters()[static_cast<uint8_t>(character[0])]
                                   : std::string(character);
      const size_t before = symbols->size();
      for (const char byte : text) {
        const auto found = vocabulary_->Find(fmt::format("<0x{:02X}>", static_cast<uint8_t>(byte)));
        if (!found) break;
        symbols->push_back(*found);
      }
      if (symbols->size() - before == text.size()) continue;
      symbols->resize(before);
    }
    if (options_.unk_token.empty()) continue;
    if (!unk_id_) {
      return Fail(
          ErrorCode::kCorrupt,
          fmt::format("the text needs the unknown token \"{}\", which is not in the vocabulary", options_.unk_token));
    }
    if (waiting && !options_.fuse_unk) symbols->push_back(*unk_id_);
    waiting = true;
  }
  if (waiting) symbols->push_back(*unk_id_);
  return {};
}

void BpeModel::MergeShort(Scratch* scratch) const {
  std::vector<uint32_t>& symbols = scratch->symbols;
  std::vector<const Merge*>& best = scratch->best;
  best.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) best.push_back(Find(symbols[i], symbols[i + 1]));
  while (true) {
    size_t first = best.size();
    uint32_t rank = kNoRank;
    for (size_t i = 0; i < best.size(); ++i) {
      if (best[i] != nullptr && best[i]->rank < rank) {
        rank = best[i]->rank;
        first = i;
      }
    }
    if (first == best.size()) return;
    symbols[first] = best[first]->id;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(first) + 1);
    best.erase(best.begin() + static_cast<ptrdiff_t>(first));
    if (first > 0) best[first - 1] = Find(symbols[first - 1], symbols[first]);
    if (first < best.size()) best[first] = Find(symbols[first], symbols[first + 1]);
  }
}

void BpeModel::MergeLong(Scratch* scratch) const {
  std::vector<Scratch::Symbol>& list = scratch->list;
  std::vector<Scratch::Candidate>& heap = scratch->heap;
  list.clear();
  heap.clear();
  const auto count = static_cast<uint32_t>(scratch->symbols.size());
  SLUICE_CHECK(scratch->symbols.size() < kNone);
  for (uint32_t i = 0; i < count; ++i) {
    list.push_back({scratch->symbols[i], i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1});
  }
  const auto candidate = [&](uint32_t left, uint32_t right) -> std::optional<Scratch::Candidate> {
    const Merge* merge = Find(list[left].id, list[right].id);
    if (merge == nullptr) return std::nullopt;
    return Scratch::Candidate{merge->rank, left, merge->id, merge->pair};
  };
  for (uint32_t i = 0; i + 1 < count; ++i) {
    if (const auto found = candidate(i, i + 1)) heap.push_back(*found);
  }
  std::make_heap(heap.begin(), heap.end());
  const auto push = [&](uint32_t left, uint32_t right) {
    if (const auto found = candidate(left, right)) {
      heap.push_back(*found);
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = list[top.left];
    // A candidate is out of date where one of its two was merged meanwhile.
    if (left.id == kNone || left.next == kNone || PairOf(left.id, list[left.next].id) != top.pair) continue;
    left.id = top.id;
    Scratch::Symbol& right = list[left.next];
    right.id = kNone;
    left.next = right.next;
    if (right.next != kNone) {
      list[right.next].before = top.left;
      push(top.left, right.next);
    }
    if (left.before != kNone) push(left.before, top.left);
  }
  scratch->symbols.clear();
  for (uint32_t i = 0; i != kNone; i = list[i].next) scratch->symbols.push_back(list[i].id);
}

void BpeModel::Append(uint32_t symbol, std::vector<uint32_t>* ids) const {
  if (symbol < vocabulary_->size()) {
    ids->push_back(symbol);
    return;
  }
  for (const char& byte : TextOf(symbol)) {
    if (static_cast<uint8_t>(byte) >= 128) continue;
    if (const auto id = vocabulary_->Find(std::string_view(&byte, 1))) ids->push_back(*id);
  }
}

}  // namespace sluice::tokenizer
