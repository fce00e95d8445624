#include "tokenizer/unigram.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr double kUserDefinedScore = -0.1f;  // SentencePiece's, with what its "highest score" adds: 1e-38 a byte
constexpr double kUnkPenalty = 10;           // below the lowest score of all (SentencePiece's kUnkPenalty)

bool In(const std::vector<bool>& set, uint32_t id) { return id < set.size() && set[id]; }

}  // namespace

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, uint32_t>> pieces) {
  std::sort(pieces.begin(), pieces.end());
  // Breadth first: a node stands for the pieces [begin, end), which share their first `depth` bytes.
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, pieces.size(), 0}};
  nodes_.emplace_back();
  for (size_t node = 0; node < ranges.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    if (begin < end && pieces[begin].first.size() == depth) {
      if (depth > 0) nodes_[node].id = pieces[begin].second;
      ++begin;
    }
    nodes_[node].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = pieces[begin].first[depth];
      size_t next = begin;
      while (next < end && pieces[next].first[depth] == byte) ++next;
      Node child;
      child.byte = static_cast<uint8_t>(byte);
      nodes_.push_back(child);
      ranges.push_back({begin, next, depth + 1});
      ++nodes_[node].num_children;
      begin = next;
    }
    // Signed and unsigned order of bytes differ; std::string_view compares as unsigned, so the children are sorted.
  }
}

uint32_t PieceTrie::Child(uint32_t node, uint8_t byte) const {
  const auto begin = nodes_.begin() + nodes_[node].first_child, end = begin + nodes_[node].num_children;
  const auto found =
      std::lower_bound(begin, end, byte, [](const Node& child, uint8_t value) { return child.byte < value; });
  return found != end && found->byte == byte ? static_cast<uint32_t>(found - nodes_.begin()) : kNone;
}

struct UnigramModel::Scratch final : ModelScratch {
  static constexpr uint32_t kNowhere = UINT32_MAX;
  struct End {
    double score = 0;           // of the best way that ends here
    uint32_t begin = kNowhere;  // of its last piece
    uint32_t id = 0;
  };
  std::vector<End> ends;
  std::vector<std::pair<uint32_t, uint32_t>> cuts;  // begins and ends, last first
};

std::unique_ptr<ModelScratch> UnigramModel::NewScratch() const { return std::make_unique<Scratch>(); }

UnigramModel::UnigramModel(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
                           UnigramOptions options)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      options_(std::move(options)),
      trie_(TriePieces()) {
  SLUICE_CHECK(scores_.size() >= vocabulary_->size());
  double lowest = std::numeric_limits<float>::max();
  for (uint32_t id = 0; id < vocabulary_->size(); ++id) {
    if (!In(options_.excluded, id) && !In(options_.user_defined, id)) lowest = std::min(lowest, scores_[id]);
  }
  unk_score_ = lowest - kUnkPenalty;
  if (options_.single_precision) unk_score_ = static_cast<float>(unk_score_);
}

std::vector<std::pair<std::string_view, uint32_t>> UnigramModel::TriePieces() const {
  std::vector<std::pair<std::string_view, uint32_t>> pieces;
  for (uint32_t id = 0; id < vocabulary_->size(); ++id) {
    const std::string_view piece = vocabulary_->piece(id);
    // A text that stands twice means its last id.
    if (!In(options_.excluded, id) && !piece.empty() && vocabulary_->Find(piece) == id) pieces.emplace_back(piece, id);
  }
  return pieces;
}

Result<void> UnigramModel::Encode(std::string_view word, ModelScratch* model_scratch,
                                  std::vector<uint32_t>* ids) const {
  if (word.size() >= Scratch::kNowhere) return Fail(ErrorCode::kUnsupported, "a text of 4 GB is not supported yet");
  auto* scratch = static_cast<Scratch*>(model_scratch);
  auto& ends = scratch->ends;
  ends.assign(word.size() + 1, {});
  const uint32_t unknown = vocabulary_->size();  // stands for "no piece"
  for (size_t begin = 0; begin < word.size();) {
    const double here = ends[begin].score;
    const size_t character = CodePointAt(word, begin).size_bytes;
    bool has_character = false;
    const auto offer = [&](size_t size, double score, uint32_t id) {
      const double sum = options_.single_precision ? static_cast<float>(here + score) : here + score;
      Scratch::End& end = ends[begin + size];
      if (end.begin == Scratch::kNowhere || sum > end.score) end = {sum, static_cast<uint32_t>(begin), id};
    };
    trie_.ForEachPrefix(word.substr(begin), [&](size_t size, uint32_t id) {
      offer(size, In(options_.user_defined, id) ? kUserDefinedScore : scores_[id], id);
      has_character |= size == character;
    });
    if (!has_character) offer(character, unk_score_, unknown);
    begin += character;
  }
  auto& cuts = scratch->cuts;
  cuts.clear();
  for (auto end = static_cast<uint32_t>(word.size()); end > 0; end = ends[end].begin) {
    const bool unk = ends[end].id == unknown;
    // Unknown characters that stand together are one.
    if (unk && !cuts.empty() && ends[cuts.back().second].id == unknown && cuts.back().first == end) {
      cuts.back().first = ends[end].begin;
    } else {
      cuts.emplace_back(ends[end].begin, end);
    }
  }
  for (auto cut = cuts.rbegin(); cut != cuts.rend(); ++cut) {
    if (ends[cut->second].id != unknown) {
      ids->push_back(ends[cut->second].id);
    } else {
      SLUICE_TRY(AppendUnknown(word.substr(cut->first, cut->second - cut->first), ids));
    }
  }
  return {};
}

Result<void> UnigramModel::AppendUnknown(std::string_view text, std::vector<uint32_t>* ids) const {
  if (options_.byte_fallback) {
    const size_t before = ids->size();
    for (const char byte : text) {
      const auto id = vocabulary_->Find(fmt::format("<0x{:02X}>", static_cast<uint8_t>(byte)));
      if (!id) break;
      ids->push_back(*id);
    }
    if (ids->size() - before == text.size()) return {};
    ids->resize(before);
  }
  if (!options_.unk_id) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("the text needs an unknown token for \"{}\", and the model has none", text));
  }
  ids->push_back(*options_.unk_id);
  return {};
}

}  // namespace sluice::tokenizer
