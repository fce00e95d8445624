#include "tokenizer/sentencepiece_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "formats/json_document.h"
#include "formats/json_reader.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/sentencepiece_normalizer.h"
#include "tokenizer/spm.h"
#include "tokenizer/unigram.h"

namespace sluice::tokenizer {
namespace {

// A message of protobuf's wire format, field by field.
class Message {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}

  struct Field {
    uint32_t number = 0;
    uint64_t value = 0;      // a varint, or fixed bytes, little-endian
    std::string_view bytes;  // of a string or message
  };
  // False at the end, and where the bytes are no message (then !ok()).
  bool Next(Field* field) {
    if (at_ >= bytes_.size()) return false;
    uint64_t tag = 0, size = 0;
    if (!Varint(&tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX) return Bad();
    *field = {};
    field->number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0:
        return Varint(&field->value) || Bad();
      case 1:
        return Fixed(8, &field->value) || Bad();
      case 5:
        return Fixed(4, &field->value) || Bad();
      case 2:
        if (!Varint(&size) || size > bytes_.size() - at_) return Bad();
        field->bytes = bytes_.substr(at_, size);
        at_ += size;
        return true;
      default:
        return Bad();
    }
  }
  bool ok() const { return ok_; }
  size_t at() const { return at_; }

 private:
  bool Bad() { return ok_ = false; }
  bool Varint(uint64_t* value) {
    for (uint32_t shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      *value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool Fixed(size_t size, uint64_t* value) {
    if (size > bytes_.size() - at_) return false;
    std::memcpy(value, bytes_.data() + at_, size);
    at_ += size;
    return true;
  }

  const std::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

enum PieceType : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
enum ModelType : uint64_t { kUnigram = 1, kBpe = 2 };

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  Result<std::shared_ptr<const Tokenizer>> Read(const std::vector<std::string>& configs) {
    SLUICE_TRY(ReadMessage());
    if (model_type_ != kUnigram && model_type_ != kBpe) {
      return Fail(Error{ErrorCode::kUnsupported,
                        fmt::format("is a model of {}, which is not supported yet; known are BPE and Unigram",
                                    model_type_ == 3 ? "words" : "characters"),
                        {file_}});
    }
    parts_.source = file_;
    parts_.vocabulary = vocabulary_;
    SLUICE_TRY(FindSpecial());
    SLUICE_TRY(MakeModel());
    MakeDecoder();
    parts_.normalizer = MakeSentencePieceNormalizer(std::move(spec_));
    SLUICE_TRY(ReadFrame(configs));
    return Tokenizer::Make(std::move(parts_));
  }

  Result<SentencePieceTable> ReadTable() {
    SLUICE_TRY(ReadMessage());
    if (model_type_ != kBpe) return Fail(Error{ErrorCode::kUnsupported, "is no model of type BPE", {file_}});
    return SentencePieceTable{.vocabulary = vocabulary_,
                              .scores = std::move(scores_),
                              .types = std::vector<int64_t>(types_.begin(), types_.end()),
                              .space_before_text = spec_.add_dummy_prefix};
  }

 private:
  Result<void> ReadMessage() {
    Message message(bytes_);
    Message::Field field;
    while (message.Next(&field)) {
      if (field.number == 1) SLUICE_TRY(ReadPiece(field.bytes));
      if (field.number == 2) SLUICE_TRY(ReadTrainer(field.bytes));
      if (field.number == 3) SLUICE_TRY(ReadNormalizerSpec(field.bytes));
    }
    if (!message.ok() || types_.empty()) {
      return Corrupt(fmt::format("is no SentencePiece model: byte {} is wrong; fetch it again", message.at()));
    }
    return {};
  }

  tl::unexpected<Error> Corrupt(std::string message) const {
    return Fail(Error{ErrorCode::kCorrupt, std::move(message), {file_}});
  }

  Result<void> ReadPiece(std::string_view bytes) {
    Message message(bytes);
    Message::Field field;
    std::string_view piece;
    float score = 0;
    uint64_t type = kNormal;
    while (message.Next(&field)) {
      if (field.number == 1) piece = field.bytes;
      if (field.number == 3) type = field.value;
      if (field.number != 2) continue;
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&score, &bits, sizeof(score));
    }
    const auto id = static_cast<uint32_t>(types_.size());
    if (!message.ok() || piece.empty() || formats::FirstInvalidUtf8(piece) || !std::isfinite(score)) {
      return Corrupt(fmt::format("piece {} is damaged; fetch the file again", id));
    }
    if (!vocabulary_->Set(id, piece)) return Corrupt(fmt::format("piece {}, \"{}\", is there already", id, piece));
    types_.push_back(type);
    scores_.push_back(score);
    return {};
  }

  Result<void> ReadTrainer(std::string_view bytes) {
    Message message(bytes);
    Message::Field field;
    while (message.Next(&field)) {
      if (field.number == 3) model_type_ = field.value;
      if (field.number == 24) spec_.space_behind = field.value != 0;
      if (field.number == 35) byte_fallback_ = field.value != 0;
      if (field.number >= 40 && field.number <= 43) special_ids_[field.number - 40] = static_cast<int64_t>(field.value);
    }
    return message.ok() ? Result<void>() : Corrupt("trainer_spec is damaged; fetch the file again");
  }

  Result<void> ReadNormalizerSpec(std::string_view bytes) {
    Message message(bytes);
    Message::Field field;
    while (message.Next(&field)) {
      if (field.number == 3) spec_.add_dummy_prefix = field.value != 0;
      if (field.number == 4) spec_.remove_extra_whitespaces = field.value != 0;
      if (field.number == 5) spec_.escape_whitespaces = field.value != 0;
      if (field.number != 2) continue;
      auto map = CharsMap::Make(std::string(field.bytes));
      if (!map) return Fail(std::move(map).error().In("normalizer_spec").In(file_));
      spec_.map = std::move(*map);
    }
    return message.ok() ? Result<void>() : Corrupt("normalizer_spec is damaged; fetch the file again");
  }

  Result<void> FindSpecial() {
    std::optional<uint32_t>* ids[] = {&parts_.special.unk, &parts_.special.bos, &parts_.special.eos,
                                      &parts_.special.pad};
    for (size_t i = 0; i < std::size(ids); ++i) {
      if (special_ids_[i] >= 0 && special_ids_[i] < static_cast<int64_t>(types_.size())) {
        *ids[i] = static_cast<uint32_t>(special_ids_[i]);
      }
    }
    for (uint32_t id = 0; id < types_.size(); ++id) {
      if (types_[id] == kUnknown) parts_.special.unk = id;
      if (types_[id] == kControl || types_[id] == kUnknown) {
        parts_.special_pieces.push_back(id);
        AddedToken token;
        token.id = id;
        token.content = std::string(vocabulary_->piece(id));
        token.special = true;
        parts_.added_tokens.push_back(std::move(token));
      }
      if (types_[id] == kUserDefined) spec_.user_defined.Add(vocabulary_->piece(id), id);
    }
    if (!parts_.special.unk) return Corrupt("has no piece for what is unknown; fetch the file again");
    return {};
  }

  std::vector<bool> OfType(std::initializer_list<uint64_t> wanted) const {
    std::vector<bool> set(types_.size());
    for (size_t id = 0; id < types_.size(); ++id) {
      set[id] = std::find(wanted.begin(), wanted.end(), types_[id]) != wanted.end();
    }
    return set;
  }

  Result<void> MakeModel() {
    if (model_type_ == kUnigram) {
      UnigramOptions options;
      options.unk_id = parts_.special.unk;
      options.byte_fallback = byte_fallback_;
      options.single_precision = true;
      options.excluded = OfType({kUnknown, kControl, kByte, kUnused});
      options.user_defined = OfType({kUserDefined});
      parts_.model = std::make_unique<UnigramModel>(vocabulary_, std::vector<double>(scores_.begin(), scores_.end()),
                                                    std::move(options));
      return {};
    }
    SpmUnknown unknown;
    unknown.unk_id = *parts_.special.unk;
    for (int byte = 0; byte_fallback_ && byte < 256; ++byte) {
      const auto id = vocabulary_->Find(fmt::format("<0x{:02X}>", byte));
      if (!id) return Corrupt(fmt::format("has byte_fallback, but no piece <0x{:02X}>; fetch the file again", byte));
      unknown.byte_ids.push_back(*id);
    }
    const std::vector<bool> unused = OfType({kUnused});
    if (std::find(unused.begin(), unused.end(), true) != unused.end()) {
      return Fail(
          Error{ErrorCode::kUnsupported, "is a BPE model with unused pieces, which is not supported yet", {file_}});
    }
    SpmOptions options;
    options.excluded = OfType({kUnknown, kControl, kByte});
    options.user_defined = spec_.user_defined;
    parts_.model = std::make_unique<SpmModel>(vocabulary_, scores_, std::move(unknown), std::move(options));
    return {};
  }

  void MakeDecoder() {
    parts_.decoder.steps = {{.type = DecodeStep::Type::kReplace, .a = std::string(kMetaspace), .b = {}},
                            {.type = DecodeStep::Type::kByteFallback, .a = {}, .b = {}}};
    parts_.decoder.steps[0].b.push_back(' ');
    parts_.decoder.raw_special = true;
    if (!spec_.space_behind && (spec_.add_dummy_prefix || spec_.remove_extra_whitespaces)) {
      parts_.decoder.strip_first.push_back(' ');
      parts_.decoder.strip_count = spec_.remove_extra_whitespaces ? UINT32_MAX : 1;
    }
  }

  // SentencePiece adds nothing by itself; the tokenizers of Llama and its kin put BOS first unless their config says
  // no.
  Result<void> ReadFrame(const std::vector<std::string>& configs) {
    bool add_bos = true, add_eos = false;
    for (const std::string& text : configs) {
      SLUICE_ASSIGN(const nlohmann::ordered_json config, formats::ParseJson(text, "tokenizer_config.json"));
      if (!config.is_object()) continue;
      if (const auto found = config.find("add_bos_token"); found != config.end() && found->is_boolean())
        add_bos = *found;
      if (const auto found = config.find("add_eos_token"); found != config.end() && found->is_boolean())
        add_eos = *found;
    }
    if (add_bos && parts_.special.bos) parts_.prefix.push_back(*parts_.special.bos);
    if (add_eos && parts_.special.eos) parts_.suffix.push_back(*parts_.special.eos);
    return {};
  }

  const std::string_view bytes_;
  const std::string& file_;
  std::shared_ptr<Vocabulary> vocabulary_ = std::make_shared<Vocabulary>();
  std::vector<uint64_t> types_;
  std::vector<float> scores_;
  uint64_t model_type_ = kUnigram;
  bool byte_fallback_ = false;
  int64_t special_ids_[4] = {0, 1, 2, -1};  // unk, bos, eos, pad, by default
  SentencePieceSpec spec_;
  TokenizerParts parts_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> ParseSentencePieceModel(std::string_view bytes, const std::string& file,
                                                                 const std::vector<std::string>& configs) {
  return Reader(bytes, file).Read(configs);
}

Result<SentencePieceTable> ReadSentencePieceTable(std::string_view bytes, const std::string& file) {
  return Reader(bytes, file).ReadTable();
}

}  // namespace sluice::tokenizer
