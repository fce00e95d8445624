#include "tokenizer/piece_decoder.h"

#include <optional>
#include <utility>

#include "tokenizer/byte_level.h"
#include "tokenizer/metaspace.h"

namespace sluice::tokenizer {

std::optional<uint8_t> ByteOfPiece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  uint8_t value = 0;
  for (const char c : piece.substr(3, 2)) {
    if (c >= '0' && c <= '9') {
      value = static_cast<uint8_t>(value * 16 + (c - '0'));
    } else if (c >= 'A' && c <= 'F') {
      value = static_cast<uint8_t>(value * 16 + (c - 'A' + 10));
    } else if (c >= 'a' && c <= 'f') {
      value = static_cast<uint8_t>(value * 16 + (c - 'a' + 10));
    } else {
      return std::nullopt;
    }
  }
  return value;
}

std::string PieceDecoder::Decode(std::string_view piece, bool special, bool first) const {
  std::string text(piece);
  if (!(special && raw_special)) {
    for (const DecodeStep& step : steps) {
      switch (step.type) {
        case DecodeStep::Type::kByteLevel:
          if (auto bytes = FromByteLevel(text)) text = std::move(*bytes);
          break;
        case DecodeStep::Type::kByteFallback:
          if (const auto byte = ByteOfPiece(text)) text.assign(1, static_cast<char>(*byte));
          break;
        case DecodeStep::Type::kReplace:
        case DecodeStep::Type::kMetaspace: {
          if (text.find(step.a) == std::string::npos) break;
          const bool nothing = step.type == DecodeStep::Type::kMetaspace && first && step.start > 0;
          std::string replaced;
          AppendReplaced(text, step.a,
                         nothing                                     ? ""
                         : step.type == DecodeStep::Type::kMetaspace ? " "
                                                                     : step.b,
                         &replaced);
          text = std::move(replaced);
          break;
        }
        case DecodeStep::Type::kStrip:
          for (uint32_t i = 0; i < step.start && text.starts_with(step.a); ++i) text.erase(0, step.a.size());
          for (uint32_t i = 0; i < step.stop && text.ends_with(step.a); ++i) text.resize(text.size() - step.a.size());
          break;
      }
    }
  }
  if (separate && !first) text.insert(text.begin(), ' ');
  return text;
}

}  // namespace sluice::tokenizer
