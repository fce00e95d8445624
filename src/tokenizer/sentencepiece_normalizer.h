// What SentencePiece does to a text before its model sees it.
#pragma once

#include <memory>
#include <string>

#include "tokenizer/added_tokens.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/precompiled.h"

namespace sluice::tokenizer {

struct SentencePieceSpec {
  CharsMap map;             // empty: characters stay as they are
  TextFinder user_defined;  // texts that are not touched
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true, space_behind = false;
};

std::unique_ptr<const Normalizer> MakeSentencePieceNormalizer(SentencePieceSpec spec);

}  // namespace sluice::tokenizer
