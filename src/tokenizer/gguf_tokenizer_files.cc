#include "tokenizer/gguf_tokenizer_files.h"

#include <bit>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "formats/json_reader.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/gguf_vocabulary.h"

namespace sluice::tokenizer {
namespace {

using formats::GgufFile;
using nlohmann::json;  // objects sorted by key: a vocabulary has 100,000
using nlohmann::ordered_json;

// Fields of protobuf's wire format, appended.
class ProtoWriter {
 public:
  void Varint(uint32_t field, uint64_t value) {
    Tag(field, 0);
    Number(value);
  }
  void Float(uint32_t field, float value) {
    Tag(field, 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift);
  }
  void Bytes(uint32_t field, std::string_view value) {
    Tag(field, 2);
    Number(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Tag(uint32_t field, uint32_t type) { Number(field << 3 | type); }
  void Number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

class FilesWriter {
 public:
  FilesWriter(const GgufFile& file, const Tokenizer& tokenizer, GgufVocabulary vocabulary)
      : file_(file), tokenizer_(tokenizer), pieces_(*vocabulary.vocabulary), vocabulary_(std::move(vocabulary)) {}

  Result<std::vector<checkpoint::SideFile>> Write() {
    for (uint32_t id = 0; id < pieces_.size(); ++id) {
      if (!formats::FirstInvalidUtf8(pieces_.piece(id))) continue;
      return Fail(Error{ErrorCode::kUnsupported,
                        fmt::format("token {} is not UTF-8, which tokenizer files cannot hold", id),
                        {file_.source()->name(), GgufTokenizerKey("tokens")}});
    }
    SLUICE_ASSIGN(const std::optional<std::string> model, file_.GetString(GgufTokenizerKey("model")));
    std::vector<checkpoint::SideFile> files;
    if (*model == "gpt2") {
      SLUICE_ASSIGN(std::string json, TokenizerJson());
      files.push_back({"tokenizer.json", "", std::move(json)});
    } else {
      SLUICE_ASSIGN(std::string proto, SentencePieceModel());
      files.push_back({"tokenizer.model", "", std::move(proto)});
    }
    SLUICE_ASSIGN(std::string config, Config(*model == "gpt2"));
    files.push_back({"tokenizer_config.json", "", std::move(config)});
    return files;
  }

 private:
  bool IsAdded(uint32_t id) const {
    const int64_t type = vocabulary_.types[id];
    return type == kControl || type == kUnknown || type == kUserDefined;
  }

  json AddedToken(uint32_t id) const {
    return {{"id", id},
            {"content", pieces_.piece(id)},
            {"single_word", false},
            {"lstrip", false},
            {"rstrip", false},
            {"normalized", false},
            {"special", vocabulary_.types[id] != kUserDefined}};
  }

  Result<std::string> TokenizerJson() const {
    SLUICE_ASSIGN(const std::optional<std::string> name, file_.GetString(GgufTokenizerKey("pre")));
    const GgufPreTokenizer& pre = *FindGgufPreTokenizer(name.value_or(""));
    json file = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    json& added = file["added_tokens"] = json::array();
    json vocab = json::object();
    for (uint32_t id = 0; id < pieces_.size(); ++id) {
      vocab[std::string(pieces_.piece(id))] = id;
      if (IsAdded(id)) added.push_back(AddedToken(id));
    }
    file["normalizer"] = nullptr;
    json steps = json::array();
    for (const std::string_view pattern : pre.patterns) {
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
    const json byte_level = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
    steps.push_back(byte_level);
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
    file["post_processor"] = PostProcessor(byte_level);
    file["decoder"] = byte_level;
    json merges = json::array();
    SLUICE_ASSIGN(const formats::GgufStrings pairs, file_.ReadStrings(*file_.FindKey(GgufTokenizerKey("merges"))));
    for (size_t i = 0; i < pairs.size(); ++i) {
      const size_t space = pairs[i].find(' ', 1);  // the first character may itself be a space
      merges.push_back({pairs[i].substr(0, space), pairs[i].substr(space + 1)});
    }
    file["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", nullptr},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", false},
                     {"byte_fallback", false},
                     {"ignore_merges", pre.ignore_merges},
                     {"vocab", std::move(vocab)},
                     {"merges", std::move(merges)}};
    return file.dump(1) + "\n";
  }

  // What stands before and behind each text.
  json PostProcessor(const json& without) const {
    const SpecialIds& special = tokenizer_.special_ids();
    const bool bos = tokenizer_.adds_bos() && special.bos, eos = tokenizer_.adds_eos() && special.eos;
    if (!bos && !eos) return without;
    json tokens = json::object(), single = json::array(), pair = json::array();
    const auto add_special = [&](uint32_t id, int sequence, json* out) {
      const std::string text(pieces_.piece(id));
      tokens[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
      out->push_back({{"SpecialToken", {{"id", text}, {"type_id", sequence}}}});
    };
    const auto add_text = [&](const char* name, int sequence, json* out) {
      if (bos) add_special(*special.bos, sequence, out);
      out->push_back({{"Sequence", {{"id", name}, {"type_id", sequence}}}});
      if (eos) add_special(*special.eos, sequence, out);
    };
    add_text("A", 0, &single);
    add_text("A", 0, &pair);
    add_text("B", 1, &pair);
    return {{"type", "TemplateProcessing"},
            {"single", std::move(single)},
            {"pair", std::move(pair)},
            {"special_tokens", std::move(tokens)}};
  }

  // sentencepiece_model.proto: ModelProto { pieces = 1, trainer_spec = 2, normalizer_spec = 3 }.
  Result<std::string> SentencePieceModel() const {
    std::vector<float> scores(pieces_.size());
    if (const formats::GgufKey* key = file_.FindKey(GgufTokenizerKey("scores"))) {
      SLUICE_ASSIGN(scores, file_.ReadFloats(*key));
    }
    ProtoWriter model;
    for (uint32_t id = 0; id < pieces_.size(); ++id) {
      ProtoWriter piece;
      piece.Bytes(1, pieces_.piece(id));
      piece.Float(2, scores[id]);
      if (vocabulary_.types[id] != kNormal) piece.Varint(3, static_cast<uint64_t>(vocabulary_.types[id]));
      model.Bytes(1, piece.bytes());
    }
    const SpecialIds& special = tokenizer_.special_ids();
    const auto id_or_none = [](std::optional<uint32_t> id) {
      return id ? uint64_t{*id} : static_cast<uint64_t>(int64_t{-1});
    };
    ProtoWriter trainer;
    constexpr uint64_t kBpe = 2;
    trainer.Varint(3, kBpe);
    trainer.Varint(4, pieces_.size());
    trainer.Varint(35, 1);  // byte_fallback
    trainer.Varint(40, id_or_none(special.unk));
    trainer.Varint(41, id_or_none(special.bos));
    trainer.Varint(42, id_or_none(special.eos));
    trainer.Varint(43, id_or_none(special.pad));
    model.Bytes(2, trainer.bytes());
    SLUICE_ASSIGN(const std::optional<bool> space, file_.GetBool(GgufTokenizerKey("add_space_prefix")));
    ProtoWriter normalizer;
    normalizer.Bytes(1, "identity");
    normalizer.Varint(3, space.value_or(true));  // add_dummy_prefix
    normalizer.Varint(4, 0);                     // remove_extra_whitespaces
    normalizer.Varint(5, 1);                     // escape_whitespaces
    model.Bytes(3, normalizer.bytes());
    return model.bytes();
  }

  Result<std::string> Config(bool bpe) const {
    ordered_json config = {{"add_bos_token", tokenizer_.adds_bos()}, {"add_eos_token", tokenizer_.adds_eos()}};
    ordered_json decoder = ordered_json::object();
    for (uint32_t id = 0; id < pieces_.size(); ++id) {
      if (!IsAdded(id)) continue;
      json token = AddedToken(id);
      token.erase("id");
      decoder[std::to_string(id)] = token;
    }
    config["added_tokens_decoder"] = std::move(decoder);
    const SpecialIds& special = tokenizer_.special_ids();
    for (const auto& [name, id] : {std::pair{"bos_token", special.bos}, std::pair{"eos_token", special.eos},
                                   std::pair{"pad_token", special.pad}, std::pair{"unk_token", special.unk}}) {
      if (id) config[name] = pieces_.piece(*id);
    }
    SLUICE_ASSIGN(const std::optional<std::string> chat, file_.GetString("tokenizer.chat_template"));
    if (chat) config["chat_template"] = *chat;
    config["clean_up_tokenization_spaces"] = false;
    if (!bpe) config["legacy"] = false;
    SLUICE_ASSIGN(const std::optional<std::string> architecture, file_.GetString("general.architecture"));
    const bool gemma = architecture && architecture->starts_with("gemma");
    config["tokenizer_class"] = bpe ? "PreTrainedTokenizerFast" : gemma ? "GemmaTokenizer" : "LlamaTokenizer";
    return config.dump(2) + "\n";
  }

  const GgufFile& file_;
  const Tokenizer& tokenizer_;
  const Vocabulary& pieces_;
  const GgufVocabulary vocabulary_;
};

}  // namespace

Result<std::vector<checkpoint::SideFile>> TokenizerFilesOf(const GgufFile& file) {
  if (file.FindKey(GgufTokenizerKey("model")) == nullptr) return std::vector<checkpoint::SideFile>{};
  SLUICE_ASSIGN(const auto tokenizer, OpenGgufTokenizer(file));  // also refuses what is not known
  SLUICE_ASSIGN(GgufVocabulary vocabulary, ReadGgufVocabulary(file));
  return FilesWriter(file, *tokenizer, std::move(vocabulary)).Write();
}

}  // namespace sluice::tokenizer
