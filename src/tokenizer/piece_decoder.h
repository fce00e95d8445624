// PieceDecoder: the bytes that each piece stands for, one piece after the other, so that a text can be given out while
// it is made. The steps are the decoders of Hugging Face's tokenizers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tokenizer {

// The byte of "<0x0A>"; nullopt for any other piece.
std::optional<uint8_t> ByteOfPiece(std::string_view piece);

struct DecodeStep {
  enum class Type {
    kByteLevel,     // GPT-2's characters become their bytes
    kByteFallback,  // <0x0A> becomes that byte
    kReplace,       // a becomes b
    kStrip,         // up to `start` times a at the front, `stop` times at the end
    kMetaspace,     // a becomes a space, in the first piece nothing (with start = 0: a space there too)
  };
  Type type;
  std::string a, b;
  uint32_t start = 0, stop = 0;
};

struct PieceDecoder {
  std::vector<DecodeStep> steps;  // for each piece
  std::string strip_first;        // then, of the whole text: up to strip_count of these at the front
  uint32_t strip_count = 0;
  bool separate = false;     // a space before each piece but the first
  bool raw_special = false;  // special tokens stand for their own text

  // `first`: no piece came before.
  std::string Decode(std::string_view piece, bool special, bool first) const;
};

}  // namespace sluice::tokenizer
