#include "tokenizer/gguf_tokenizer.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "formats/json_reader.h"
#include "tokenizer/bpe.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/gguf_vocabulary.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/spm.h"

namespace sluice::tokenizer {
namespace {

using formats::GgufFile;
using formats::GgufKey;
using formats::GgufType;

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file), path_(file.source()->name()) {}

  Result<std::shared_ptr<const Tokenizer>> Read() {
    SLUICE_ASSIGN(const std::optional<std::string> model, file_.GetString(Key("model")));
    if (!model) return Wrong(ErrorCode::kNotFound, "model", "is missing: the file has no tokenizer");
    if (*model != "gpt2" && *model != "llama") {
      return Wrong(ErrorCode::kUnsupported, "model",
                   fmt::format("is \"{}\", which is not supported yet; known are gpt2 and llama", *model));
    }
    parts_.source = path_;
    parts_.added_way = AddedTokens::Way::kLongestFirst;
    SLUICE_TRY(ReadPieces());
    SLUICE_TRY(*model == "gpt2" ? ReadBpe() : ReadSpm());
    SLUICE_TRY(ReadSpecial(*model == "llama"));
    AddTokens();
    return Tokenizer::Make(std::move(parts_));
  }

 private:
  static std::string Key(std::string_view name) { return GgufTokenizerKey(name); }
  tl::unexpected<Error> Wrong(ErrorCode code, std::string_view key, std::string message) const {
    return Fail(Error{code, std::move(message), {path_, Key(key)}});
  }

  Result<void> ReadPieces() {
    SLUICE_ASSIGN(GgufVocabulary read, ReadGgufVocabulary(file_));
    parts_.vocabulary = std::move(read.vocabulary);
    types_ = std::move(read.types);
    return {};
  }

  tl::unexpected<Error> TooShort(std::string_view key, size_t size) const {
    return Wrong(ErrorCode::kCorrupt, key,
                 fmt::format("has {} elements for {} tokens; the file is damaged", size, types_.size()));
  }

  Result<void> ReadBpe() {
    SLUICE_ASSIGN(const std::optional<std::string> name, file_.GetString(Key("pre")));
    const GgufPreTokenizer* pre = FindGgufPreTokenizer(name.value_or(""));
    if (pre == nullptr) {
      return Wrong(ErrorCode::kUnsupported, "pre", fmt::format("is \"{}\", which is not supported yet", *name));
    }
    adds_bos_ = pre->adds_bos;
    for (const std::string_view pattern : pre->patterns) {
      SLUICE_ASSIGN(Regex regex, Regex::Compile(pattern, UnicodeVersion::k15_1));  // that of llama.cpp's tables
      SplitPattern split;
      split.regex = std::move(regex);
      parts_.pre_tokenizers.push_back(MakeSplit(std::move(split), SplitBehaviour::kIsolated));
    }
    const GgufKey* key = file_.FindKey(Key("merges"));
    if (key == nullptr) return Wrong(ErrorCode::kCorrupt, "merges", "is missing; a model of kind gpt2 needs it");
    SLUICE_ASSIGN(const formats::GgufStrings strings, file_.ReadStrings(*key));
    Merges merges;
    merges.reserve(strings.size());
    for (size_t i = 0; i < strings.size(); ++i) {
      const std::string_view merge = strings[i];
      const size_t space = merge.find(' ', 1);  // the first character may itself be a space
      if (space == std::string_view::npos) {
        return Wrong(ErrorCode::kCorrupt, "merges",
                     fmt::format("has \"{}\" as its element {}, which is no pair", merge, i));
      }
      merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    BpeOptions options;
    options.byte_level = true;
    options.ignore_merges = pre->ignore_merges;
    options.keep_unknown = true;
    auto model = BpeModel::Make(parts_.vocabulary, merges, std::move(options));
    if (!model) return Fail(std::move(model).error().In(Key("merges")).In(path_));
    parts_.model = std::move(*model);
    parts_.decoder.steps.push_back({.type = DecodeStep::Type::kByteLevel, .a = "", .b = ""});
    parts_.decoder.raw_special = true;
    return {};
  }

  Result<void> ReadSpm() {
    adds_bos_ = true;
    std::vector<float> scores(types_.size());
    if (const GgufKey* key = file_.FindKey(Key("scores"))) {
      SLUICE_ASSIGN(scores, file_.ReadFloats(*key));
      if (scores.size() < types_.size()) return TooShort("scores", scores.size());
      if (std::any_of(scores.begin(), scores.end(), [](float score) { return std::isnan(score); })) {
        return Wrong(ErrorCode::kCorrupt, "scores", "has a NaN");
      }
    }
    SpmUnknown unknown;
    for (int byte = 0; byte < 256; ++byte) {
      auto id = parts_.vocabulary->Find(fmt::format("<0x{:02X}>", byte));
      const char text = static_cast<char>(byte);
      if (!id) id = parts_.vocabulary->Find(std::string_view(&text, 1));
      if (!id) {
        return Wrong(
            ErrorCode::kUnsupported, "tokens",
            fmt::format("has no token <0x{:02X}>; a vocabulary of kind llama without bytes is not supported yet",
                        byte));
      }
      unknown.byte_ids.push_back(*id);
    }
    SLUICE_ASSIGN(const std::optional<bool> space, file_.GetBool(Key("add_space_prefix")));
    parts_.space_behind_tokens = space.value_or(true);
    parts_.normalizer = MakeReplaceText(" ", std::string(kMetaspace));
    parts_.model = std::make_unique<SpmModel>(parts_.vocabulary, std::move(scores), std::move(unknown));
    parts_.decoder.steps = {{.type = DecodeStep::Type::kReplace, .a = std::string(kMetaspace), .b = " "},
                            {.type = DecodeStep::Type::kByteFallback, .a = "", .b = ""}};
    parts_.decoder.raw_special = true;
    if (parts_.space_behind_tokens) {
      parts_.decoder.strip_first.push_back(' ');
      parts_.decoder.strip_count = 1;
    }
    return {};
  }

  Result<void> ReadSpecial(bool spm) {
    SLUICE_TRY(ReadId("bos_token_id", spm ? 1 : 11, &parts_.special.bos));
    SLUICE_TRY(ReadId("eos_token_id", spm ? 2 : 11, &parts_.special.eos));
    SLUICE_TRY(ReadId("padding_token_id", std::nullopt, &parts_.special.pad));
    SLUICE_TRY(ReadId("unknown_token_id", spm ? std::optional<uint32_t>(0) : std::nullopt, &parts_.special.unk));
    SLUICE_ASSIGN(const std::optional<bool> add_bos, file_.GetBool(Key("add_bos_token")));
    SLUICE_ASSIGN(const std::optional<bool> add_eos, file_.GetBool(Key("add_eos_token")));
    if (add_bos.value_or(adds_bos_) && parts_.special.bos) parts_.prefix.push_back(*parts_.special.bos);
    if (add_eos.value_or(false) && parts_.special.eos) parts_.suffix.push_back(*parts_.special.eos);
    return {};
  }

  // Ids beyond the vocabulary are passed over, as llama.cpp does: the key is often left over from another vocabulary.
  Result<void> ReadId(std::string_view name, std::optional<uint32_t> otherwise, std::optional<uint32_t>* id) const {
    if (otherwise && *otherwise < types_.size()) *id = otherwise;
    const GgufKey* key = file_.FindKey(Key(name));
    if (key == nullptr) return {};
    if (key->type == GgufType::kI32 && static_cast<int32_t>(key->bits) < 0) return {};
    SLUICE_ASSIGN(const std::optional<uint64_t> value, file_.GetUnsigned(Key(name)));
    if (value && *value < types_.size()) *id = static_cast<uint32_t>(*value);
    return {};
  }

  void AddTokens() {
    std::string name;
    if (auto general = file_.GetString("general.name"); general && *general) name = **general;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    // Phi-3's own tokenizer takes the white space behind its tokens along; the keys have no place for that.
    const bool phi3 = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
    for (uint32_t id = 0; id < types_.size(); ++id) {
      const int64_t type = types_[id];
      if (type == kControl || type == kUnknown) parts_.special_pieces.push_back(id);
      if (type != kControl && type != kUnknown && type != kUserDefined) continue;
      AddedToken token;
      token.id = id;
      token.content = std::string(parts_.vocabulary->piece(id));
      token.special = type != kUserDefined;
      token.rstrip = phi3 && token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
      parts_.added_tokens.push_back(std::move(token));
    }
  }

  const GgufFile& file_;
  const std::string path_;
  TokenizerParts parts_;
  std::vector<int64_t> types_;  // GgufTokenType, one for each piece
  bool adds_bos_ = false;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> OpenGgufTokenizer(const GgufFile& file) { return Reader(file).Read(); }

}  // namespace sluice::tokenizer
