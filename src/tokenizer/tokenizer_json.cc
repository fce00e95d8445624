#include "tokenizer/tokenizer_json.h"

#include <cmath>
#include <deque>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "formats/json_document.h"
#include "formats/json_reader.h"
#include "tokenizer/bpe.h"
#include "tokenizer/json_part.h"
#include "tokenizer/json_pipeline.h"
#include "tokenizer/unigram.h"

namespace sluice::tokenizer {
namespace {

using formats::JsonReader;
using formats::JsonType;
using nlohmann::ordered_json;

class Reader {
 public:
  Reader(std::string_view text, const std::string& file) : text_(text), file_(file), json_(text) {}

  Result<std::shared_ptr<const Tokenizer>> Read(const std::vector<std::string>& configs) {
    SLUICE_TRY(ReadRoot());
    if (!has_model_) return Corrupt("model", "is missing: this is no tokenizer.json");
    parts_.source = file_;
    SLUICE_TRY(ReadPipeline());
    SLUICE_TRY(MakeModel());
    parts_.vocabulary = vocabulary_;
    SLUICE_TRY(ReadAddedTokens());
    SLUICE_TRY(ReadSpecialIds(configs));
    return Tokenizer::Make(std::move(parts_));
  }

  Result<BpeTable> ReadTable() {
    SLUICE_TRY(ReadRoot());
    if (!has_model_) return Corrupt("model", "is missing: this is no tokenizer.json");
    SLUICE_TRY(ReadPipeline());
    const JsonPart part(file_, "model", model_);
    SLUICE_ASSIGN(const std::string type, part.String("type"));
    if (type != "BPE") return Unsupported("model.type", fmt::format("is {}, not BPE", type));
    if (!vocabulary_ || scored_) return Corrupt("model.vocab", "is missing");
    SLUICE_TRY(ReadAddedTokens());
    BpeTable table;
    table.vocabulary = vocabulary_;
    table.merges.reserve(merges_.size());
    for (const auto& [left, right] : merges_) table.merges.push_back(fmt::format("{} {}", left, right));
    table.added_tokens = std::move(parts_.added_tokens);
    table.byte_level = byte_level_;
    SLUICE_ASSIGN(table.byte_fallback, part.Bool("byte_fallback", false));
    return table;
  }

 private:
  tl::unexpected<Error> Corrupt(std::string path, std::string message) const {
    return Fail(Error{ErrorCode::kCorrupt, std::move(message), {file_, std::move(path)}});
  }
  tl::unexpected<Error> Unsupported(std::string path, std::string message) const {
    return Fail(Error{ErrorCode::kUnsupported, std::move(message), {file_, std::move(path)}});
  }
  tl::unexpected<Error> BadJson() const {
    const auto [line, column] = formats::LineColumnAt(text_, json_.offset());
    return Fail(Error{ErrorCode::kCorrupt,
                      fmt::format("line {}, column {}: {}; the file is damaged", line, column, json_.message()),
                      {file_}});
  }

  // The next value as a document, for all but vocabulary and merges.
  Result<ordered_json> Small() {
    const uint64_t begin = json_.position();
    if (!json_.Skip()) return BadJson();
    return formats::ParseJson(text_.substr(begin, json_.position() - begin), file_);
  }

  Result<void> ReadRoot() {
    std::string_view key;
    if (!json_.BeginObject()) return BadJson();
    root_ = ordered_json::object();
    while (json_.NextKey(&key)) {
      const std::string name(key);
      if (name == "model") {
        has_model_ = true;
        SLUICE_TRY(ReadModel());
      } else {
        SLUICE_ASSIGN(root_[name], Small());
      }
    }
    if (!json_.End() || !json_.ok()) return BadJson();
    return {};
  }

  Result<void> ReadModel() {
    std::string_view key;
    if (!json_.BeginObject()) return BadJson();
    model_ = ordered_json::object();
    while (json_.NextKey(&key)) {
      const std::string name(key);
      if (name == "vocab") {
        SLUICE_TRY(json_.Peek() == JsonType::kArray ? ReadScoredVocabulary() : ReadVocabulary());
      } else if (name == "merges") {
        SLUICE_TRY(ReadMerges());
      } else {
        SLUICE_ASSIGN(model_[name], Small());
      }
    }
    return json_.ok() ? Result<void>() : BadJson();
  }

  // {"piece": id}
  Result<void> ReadVocabulary() {
    vocabulary_ = std::make_shared<Vocabulary>();
    scores_.clear();
    std::string_view key;
    formats::JsonNumber number;
    if (!json_.BeginObject()) return BadJson();
    uint64_t count = 0, highest = 0;
    while (json_.NextKey(&key)) {
      const std::string piece(key);
      if (!json_.Number(&number)) return BadJson();
      const auto id = number.AsUint64();
      if (!id || *id >= Vocabulary::kMaxPieces) {
        return Corrupt("model.vocab",
                       fmt::format("gives \"{}\" the id {}, which is none below 2^24", piece, number.text));
      }
      if (!vocabulary_->piece(static_cast<uint32_t>(*id)).empty()) {
        return Corrupt("model.vocab", fmt::format("gives \"{}\" and \"{}\" the id {}",
                                                  vocabulary_->piece(static_cast<uint32_t>(*id)), piece, *id));
      }
      if (!vocabulary_->Set(static_cast<uint32_t>(*id), piece)) {
        return Corrupt("model.vocab", fmt::format("has \"{}\" twice", piece));
      }
      ++count;
      highest = std::max(highest, *id);
      // A few ids may be missing, not most of them: a small file must not make a large table.
      if (highest > 1'000'000 && highest > 64 * count)
        return Corrupt("model.vocab", fmt::format("has the lone id {}", highest));
    }
    return json_.ok() ? Result<void>() : BadJson();
  }

  // [["piece", score], ...]
  Result<void> ReadScoredVocabulary() {
    vocabulary_ = std::make_shared<Vocabulary>();
    scores_.clear();
    scored_ = true;
    std::string_view text;
    formats::JsonNumber number;
    if (!json_.BeginArray()) return BadJson();
    while (json_.NextElement()) {
      const auto id = static_cast<uint32_t>(scores_.size());
      const std::string path = fmt::format("model.vocab[{}]", id);
      if (!json_.BeginArray() || !json_.NextElement()) return BadPair(path, "a piece and its score");
      if (!json_.String(&text)) return BadJson();
      const std::string piece(text);
      if (!json_.NextElement()) return BadPair(path, "a piece and its score");
      if (!json_.Number(&number)) return BadJson();
      if (json_.NextElement()) return BadPair(path, "a piece and its score");
      const double score = std::strtod(std::string(number.text).c_str(), nullptr);
      if (!std::isfinite(score)) return Corrupt(path, "has a score that is no number");
      if (const auto earlier = vocabulary_->Find(piece)) hidden_ids_.push_back(*earlier);
      if (!vocabulary_->SetLast(id, piece)) return Corrupt(path, "is one piece too many");
      scores_.push_back(score);
    }
    return json_.ok() ? Result<void>() : BadJson();
  }

  tl::unexpected<Error> BadPair(const std::string& path, std::string_view what) const {
    return json_.ok() ? Corrupt(path, fmt::format("is not {}", what)) : BadJson();
  }

  // ["a b", ...] or [["a", "b"], ...]
  Result<void> ReadMerges() {
    std::string_view text;
    merges_.clear();
    if (!json_.BeginArray()) return BadJson();
    while (json_.NextElement()) {
      const std::string path = fmt::format("model.merges[{}]", merges_.size());
      if (json_.Peek() == JsonType::kArray) {
        json_.BeginArray();
        std::string halves[2];
        for (std::string& half : halves) {
          if (!json_.NextElement()) return BadPair(path, "a pair of pieces");
          if (!json_.String(&text)) return BadJson();
          half = text;
        }
        if (json_.NextElement()) return BadPair(path, "a pair of pieces");
        merges_.emplace_back(Keep(halves[0]), Keep(halves[1]));
        continue;
      }
      if (!json_.String(&text)) return BadJson();
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        return Corrupt(path, fmt::format("is \"{}\", not two pieces and a space between them", text));
      }
      const std::string_view kept = Keep(text);
      merges_.emplace_back(kept.substr(0, space), kept.substr(space + 1));
    }
    return json_.ok() ? Result<void>() : BadJson();
  }

  // A copy that lives as long as the reader, many to a block.
  std::string_view Keep(std::string_view text) {
    constexpr size_t kBlockBytes = 1 << 20;
    if (kept_.empty() || kept_.back().capacity() - kept_.back().size() < text.size()) {
      kept_.emplace_back().reserve(std::max(kBlockBytes, text.size()));
    }
    std::string& block = kept_.back();
    const size_t begin = block.size();
    block += text;
    return std::string_view(block).substr(begin);
  }

  JsonPart Root() const { return JsonPart(file_, "", root_); }
  JsonPart Part(const char* name) const { return JsonPart(file_, name, root_[name]); }

  Result<void> ReadPipeline() {
    const JsonPart root = Root();
    if (root.Has("normalizer")) {
      SLUICE_ASSIGN(parts_.normalizer, ReadNormalizer(Part("normalizer")));
    }
    if (root.Has("pre_tokenizer")) {
      PreTokenizerStages stages;
      SLUICE_TRY(ReadPreTokenizer(Part("pre_tokenizer"), &stages));
      parts_.pre_tokenizers = std::move(stages.stages);
      byte_level_ = stages.byte_level;
    }
    if (root.Has("post_processor")) {
      SpecialFrame frame;
      SLUICE_TRY(ReadPostProcessor(Part("post_processor"), &frame));
      parts_.prefix = std::move(frame.prefix);
      parts_.suffix = std::move(frame.suffix);
    }
    if (root.Has("decoder")) {
      SLUICE_ASSIGN(parts_.decoder, ReadDecoder(Part("decoder")));
    } else {
      parts_.decoder.separate = true;
    }
    return {};
  }

  Result<void> MakeModel() {
    const JsonPart part(file_, "model", model_);
    SLUICE_ASSIGN(const std::string type, part.String("type"));
    if (!vocabulary_) return Corrupt("model.vocab", "is missing");
    if (type == "BPE" && !scored_) return MakeBpe(part);
    if (type == "Unigram" && scored_) return MakeUnigram(part);
    if (type == "BPE" || type == "Unigram")
      return Corrupt("model.vocab", fmt::format("is not that of a model of type {}", type));
    return Unsupported("model.type", fmt::format("is {}, which is not supported yet; known are BPE and Unigram", type));
  }

  Result<void> MakeBpe(const JsonPart& part) {
    BpeOptions options;
    options.byte_level = byte_level_;
    SLUICE_ASSIGN(options.ignore_merges, part.Bool("ignore_merges", false));
    SLUICE_ASSIGN(options.byte_fallback, part.Bool("byte_fallback", false));
    SLUICE_ASSIGN(options.fuse_unk, part.Bool("fuse_unk", false));
    SLUICE_ASSIGN(options.unk_token, part.String("unk_token", ""));
    SLUICE_ASSIGN(options.continuing_subword_prefix, part.String("continuing_subword_prefix", ""));
    SLUICE_ASSIGN(options.end_of_word_suffix, part.String("end_of_word_suffix", ""));
    if (part.Has("dropout") && part.value()["dropout"] != 0.0) {
      return Unsupported("model.dropout", "is not 0: ids that change from call to call are not supported yet");
    }
    auto model = BpeModel::Make(vocabulary_, merges_, std::move(options));
    if (!model) return Fail(std::move(model).error().In("model.merges").In(file_));
    parts_.model = std::move(*model);
    merges_.clear();
    kept_.clear();
    return {};
  }

  Result<void> MakeUnigram(const JsonPart& part) {
    if (byte_level_)
      return Unsupported("pre_tokenizer", "is ByteLevel before a model of type Unigram, which is not supported yet");
    UnigramOptions options;
    SLUICE_ASSIGN(options.byte_fallback, part.Bool("byte_fallback", false));
    if (part.Has("unk_id")) {
      SLUICE_ASSIGN(const uint32_t unk_id, part.Unsigned("unk_id"));
      if (unk_id >= vocabulary_->size())
        return Corrupt("model.unk_id", fmt::format("is {}, beyond the vocabulary", unk_id));
      options.unk_id = unk_id;
      parts_.special.unk = unk_id;
    }
    if (scores_.empty()) return Corrupt("model.vocab", "is empty");
    parts_.model = std::make_unique<UnigramModel>(vocabulary_, std::move(scores_), std::move(options));
    return {};
  }

  Result<void> ReadAddedTokens() {
    if (!Root().Has("added_tokens")) return {};
    SLUICE_ASSIGN(const std::vector<JsonPart> tokens, Root().Array("added_tokens"));
    uint64_t next = vocabulary_->size();
    for (const JsonPart& part : tokens) {
      AddedToken token;
      SLUICE_ASSIGN(token.id, part.Unsigned("id"));
      SLUICE_ASSIGN(token.content, part.String("content"));
      SLUICE_ASSIGN(token.special, part.Bool("special", false));
      SLUICE_ASSIGN(token.lstrip, part.Bool("lstrip", false));
      SLUICE_ASSIGN(token.rstrip, part.Bool("rstrip", false));
      SLUICE_ASSIGN(token.single_word, part.Bool("single_word", false));
      SLUICE_ASSIGN(token.normalized, part.Bool("normalized", !token.special));
      if (token.content.empty()) continue;
      if (const auto id = vocabulary_->Find(token.content)) token.id = *id;
      for (const uint32_t id : hidden_ids_) {
        if (token.special && vocabulary_->piece(id) == token.content) parts_.special_pieces.push_back(id);
      }
      if (token.id > next + 1'000'000 || token.id >= Vocabulary::kMaxPieces) {
        return part.Corrupt(fmt::format("has the id {}, far from all others", token.id));
      }
      next = std::max<uint64_t>(next, token.id);
      parts_.added_tokens.push_back(std::move(token));
    }
    return {};
  }

  std::optional<uint32_t> FindToken(const std::string& text) const {
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.content == text) return token.id;
    }
    return vocabulary_->Find(text);
  }

  Result<void> ReadSpecialIds(const std::vector<std::string>& configs) {
    if (const auto unk = model_.find("unk_token"); unk != model_.end() && unk->is_string()) {
      parts_.special.unk = FindToken(unk->get<std::string>());
    }
    const std::pair<const char*, std::optional<uint32_t>*> wanted[] = {{"bos_token", &parts_.special.bos},
                                                                       {"eos_token", &parts_.special.eos},
                                                                       {"pad_token", &parts_.special.pad},
                                                                       {"unk_token", &parts_.special.unk}};
    for (const std::string& text : configs) {
      SLUICE_ASSIGN(const ordered_json config, formats::ParseJson(text, "tokenizer_config.json"));
      if (!config.is_object()) continue;
      for (const auto& [key, id] : wanted) {
        const auto found = config.find(key);
        if (found == config.end() || *id) continue;
        // A string, or an added token as an object.
        const auto* content = found->is_object() && found->contains("content") ? &(*found)["content"] : &*found;
        if (content->is_string()) *id = FindToken(content->get<std::string>());
      }
    }
    if (!parts_.special.bos && !parts_.prefix.empty()) parts_.special.bos = parts_.prefix[0];
    if (!parts_.special.eos && !parts_.suffix.empty()) parts_.special.eos = parts_.suffix.back();
    return {};
  }

  const std::string_view text_;
  const std::string& file_;
  JsonReader json_;
  ordered_json root_, model_;
  bool has_model_ = false, scored_ = false, byte_level_ = false;
  std::shared_ptr<Vocabulary> vocabulary_;
  std::vector<double> scores_;
  std::vector<uint32_t> hidden_ids_;  // of pieces that stand again behind them
  Merges merges_;
  std::deque<std::string> kept_;
  TokenizerParts parts_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> ParseTokenizerJson(std::string_view text, const std::string& file,
                                                            const std::vector<std::string>& configs) {
  return Reader(text, file).Read(configs);
}

Result<BpeTable> ReadBpeTable(std::string_view text, const std::string& file) { return Reader(text, file).ReadTable(); }

}  // namespace sluice::tokenizer
